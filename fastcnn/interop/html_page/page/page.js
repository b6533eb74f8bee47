/* The page in which one draws: the paper, and what the network gives. MODEL has the network's shape,
   classes and rule for pictures; look(context), in another script, asks the network about a canvas
   and calls answer(). */

/* Classes that are listed, the most probable ones; maps of a layer; numbers of a vector. */
const MOST_BARS = 12, MOST_MAPS = 32, MOST_NUMBERS = 512;
const PEN = 22, STEP = 10, FINE_STEP = 2;

const byId = (id) => document.getElementById(id);
const paper = byId("paper");
const pen = paper.getContext("2d", { willReadFrequently: true });
const [channels, height, width] = MODEL.shape;
const dark = matchMedia("(prefers-color-scheme: dark)");

let drawing = false;
/* Grows with each picture and when the paper is cleared: a picture that was read meanwhile is of no
   interest. */
let turn = 0;
/* Whether the page will look at the paper before it is drawn next. */
let waits = false;
/* Of the keyboard. */
const cursor = { x: 0, y: 0, down: false };
/* The canvases of the layers, and the steps that they show. */
let [shown, latest] = [[], []];

/* -- the paper ---------------------------------------------------------------------------- */

function clearPaper() {
  pen.fillStyle = MODEL.pictures.paper === "bright" ? "#fff" : "#000";
  pen.fillRect(0, 0, paper.width, paper.height);
}

function clearAll() {
  turn += 1;
  clearPaper();
  byId("answer").classList.remove("wrong");
  say("Nothing drawn yet");
  byId("layers").hidden = true;
  byId("map").hidden = true;
  byId("time").textContent = byId("done").textContent = "";
  list(MODEL.result === "classes" ? MODEL.classes.map(() => 0) : [], -1);
  showPicture(byId("seen"), new Uint8Array(channels * height * width).fill(emptyByte()));
}

function emptyByte() {
  return MODEL.pictures.paper === "bright" ? 255 : 0;
}

function stroke(from, to) {
  pen.lineWidth = PEN;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = byId("ink").value;
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(to[0] + 0.1, to[1]);
  pen.stroke();
  ask();
}

function place(event) {
  const box = paper.getBoundingClientRect();
  return [
    ((event.clientX - box.left) * paper.width) / box.width,
    ((event.clientY - box.top) * paper.height) / box.height,
  ];
}

let last = [0, 0];
paper.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  drawing = true;
  byId("cursor").hidden = true;
  cursor.down = false;
  paper.setPointerCapture(event.pointerId);
  last = place(event);
  stroke(last, last);
});
paper.addEventListener("pointermove", (event) => {
  if (!drawing) return;
  /* Browsers join the moves of one frame; a quick line has corners without them. */
  const moves = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  for (const move of moves.length ? moves : [event]) {
    const next = place(move);
    stroke(last, next);
    last = next;
  }
});
for (const name of ["pointerup", "pointercancel"]) {
  paper.addEventListener(name, () => {
    drawing = false;
  });
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
paper.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const before = [cursor.x, cursor.y];
  if (event.key in MOVES) {
    const [x, y] = MOVES[event.key].map((side) => side * (event.shiftKey ? FINE_STEP : STEP));
    cursor.x = Math.min(Math.max(cursor.x + x, 0), paper.width);
    cursor.y = Math.min(Math.max(cursor.y + y, 0), paper.height);
    if (cursor.down) stroke(before, [cursor.x, cursor.y]);
  } else if (event.key === " " || event.key === "Enter") {
    cursor.down = !cursor.down;
    if (cursor.down) stroke(before, before);
    byId("pen").textContent = cursor.down ? "Pen down" : "Pen up";
  } else if (event.key === "Delete" || event.key === "Backspace") {
    clearAll();
  } else {
    return;
  }
  event.preventDefault();
  showCursor();
});
paper.addEventListener("blur", () => {
  byId("cursor").hidden = true;
});

function showCursor() {
  const mark = byId("cursor");
  mark.hidden = false;
  mark.classList.toggle("down", cursor.down);
  mark.style.left = `${(100 * cursor.x) / paper.width}%`;
  mark.style.top = `${(100 * cursor.y) / paper.height}%`;
}

/* -- pictures ----------------------------------------------------------------------------- */

byId("clear").addEventListener("click", clearAll);
byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => {
  takeFirst(event.target.files);
  event.target.value = "";
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    paper.classList.add("over");
  });
}
document.addEventListener("dragleave", () => paper.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  paper.classList.remove("over");
  takeFirst(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => takeFirst(event.clipboardData.files));

function takeFirst(files) {
  if (files.length) take(files[0]);
}

/* Pixels as the file has them, without a conversion of colours, turned upright, on white paper. */
async function take(file) {
  const asked = (turn += 1);
  try {
    const picture = await createImageBitmap(file, { colorSpaceConversion: "none" });
    if (asked !== turn) return;
    if (picture.width * picture.height > MOST_PIXELS) {
      warn("That picture has too many pixels");
      return;
    }
    const copy = element("canvas");
    const smaller = Math.min(1, LONGEST / Math.max(picture.width, picture.height));
    [copy.width, copy.height] = [picture.width, picture.height].map((side) =>
      Math.max(1, Math.round(side * smaller))
    );
    const context = copy.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, copy.width, copy.height);
    context.drawImage(picture, 0, 0, copy.width, copy.height);
    clearPaper();
    const scale = Math.min(paper.width / copy.width, paper.height / copy.height);
    const [w, h] = [copy.width * scale, copy.height * scale];
    pen.drawImage(copy, (paper.width - w) / 2, (paper.height - h) / 2, w, h);
    look(context);
  } catch {
    if (asked === turn) warn("That is not a picture that this browser can read");
  }
}

/* -- the answer --------------------------------------------------------------------------- */

function ask() {
  if (waits) return;
  waits = true;
  const asked = turn;
  requestAnimationFrame(() => {
    waits = false;
    if (asked === turn) look(pen);
  });
}

/* Shows what the network gives: its input and the outputs of its layers as well. */
function answer({ sample, done, outputs, steps, time }) {
  showPicture(byId("seen"), sample);
  byId("done").textContent = done.join(", ");
  if (!outputs.every(Number.isFinite)) {
    warn("The network's answer is not finite");
    return;
  }
  byId("answer").classList.remove("wrong");
  tell(outputs, steps);
  byId("time").textContent = time;
  byId("layers").hidden = false;
  if (!shown.length) makeLayers(steps);
  showLayers(steps);
}

function say(text) {
  /* A screen reader reads what changes. */
  if (byId("answer").textContent !== text) byId("answer").textContent = text;
}

function warn(text) {
  say(text);
  byId("answer").classList.add("wrong");
}

function tell(outputs, steps) {
  if (MODEL.result === "classes") {
    const best = outputs.indexOf(Math.max(...outputs));
    say(`It is ${MODEL.classes[best]}`);
    list(outputs, best);
  } else if (MODEL.result === "values") {
    say(outputs.length === 1 ? `It is ${outputs[0].toPrecision(5)}` : "The network's values");
    list(outputs.length === 1 ? [] : outputs, -1);
  } else {
    const { shape, output } = steps[steps.length - 1];
    say("The network's picture");
    byId("map").hidden = false;
    showMap(byId("map"), shape, output, 0, largest(output));
  }
}

function list(values, best) {
  const shares = MODEL.result === "classes";
  let order = values.map((_, index) => index);
  if (values.length > MOST_BARS && shares) {
    order = order.sort((a, b) => values[b] - values[a]).slice(0, MOST_BARS);
  }
  const scale = shares ? 1 : Math.max(...values.map(Math.abs), 1e-12);
  const items = order.map((index) => {
    const item = element("li", index === best ? "best" : "");
    const track = element("i");
    const fill = element("b");
    fill.style.width = `${(100 * Math.abs(values[index])) / scale}%`;
    track.append(fill);
    const text = shares ? `${(100 * values[index]).toFixed(1)} %` : values[index].toPrecision(4);
    const name = shares ? MODEL.classes[index] : `Value ${index}`;
    item.append(element("span", "", name), track, element("span", "", text));
    return item;
  });
  byId("bars").replaceChildren(...items);
}

/* -- feature maps ------------------------------------------------------------------------- */

/* The canvases are made once: only their pixels change while one draws. */
function makeLayers(steps) {
  shown = steps.flatMap((step, index) => {
    const [count, rows, columns] = step.shape.length === 3 ? step.shape : [1, 1, step.shape[0]];
    if (step.shape.length !== 3 && columns > MOST_NUMBERS) return [];
    const part = element("section");
    const title = element("h3", "", `${step.name} `);
    const facts = element("span");
    title.append(facts);
    const maps = element("div", "maps");
    const scale = Math.max(1, Math.round(56 / Math.max(rows, columns)));
    const canvases = Array.from({ length: Math.min(count, MOST_MAPS) }, (_, index) => {
      const canvas = element("canvas");
      canvas.setAttribute("role", "img");
      const label = step.shape.length === 3 ? `${step.name}, channel ${index}` : step.name;
      canvas.setAttribute("aria-label", label);
      canvas.title = label;
      [canvas.width, canvas.height] = [columns, rows];
      const flat = step.shape.length !== 3;
      canvas.style.width = `${flat ? Math.min(600, Math.max(6, 240 / columns) * columns) : scale * columns}px`;
      if (flat) canvas.style.height = "16px";
      return canvas;
    });
    maps.append(...canvases);
    if (count > MOST_MAPS) maps.append(element("span", "soft", `and ${count - MOST_MAPS} more`));
    part.append(title, maps);
    byId("layers").append(part);
    return [{ index, facts, canvases, shape: [count, rows, columns] }];
  });
}

function showLayers(steps) {
  latest = steps;
  for (const { index, facts, canvases, shape } of shown) {
    const step = steps[index];
    const [low, high] = step.range ?? range(step.output);
    const ends = `${low.toPrecision(2)} to ${high.toPrecision(2)}`;
    facts.textContent = `${step.operation}, ${step.shape.join(" × ")}, ${ends}`;
    const scale = Math.max(Math.abs(low), Math.abs(high), 1e-12);
    canvases.forEach((canvas, channel) => showMap(canvas, shape, step.output, channel, scale));
  }
}

function range(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

function largest(values) {
  return Math.max(...range(values).map(Math.abs), 1e-12);
}

function colours() {
  return dark.matches
    ? { zero: [11, 13, 15], low: [86, 180, 233], high: [255, 157, 77] }
    : { zero: [255, 255, 255], low: [0, 114, 178], high: [213, 94, 0] };
}

/* One channel: the stronger the colour, the further from zero. */
function showMap(canvas, [, rows, columns], values, channel, scale) {
  const { zero, low, high } = colours();
  [canvas.width, canvas.height] = [columns, rows];
  const image = new ImageData(columns, rows);
  for (let i = 0, at = channel * rows * columns; i < rows * columns; i++, at++) {
    const share = Math.min(1, Math.abs(values[at]) / scale);
    const end = values[at] < 0 ? low : high;
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = zero[c] + share * (end[c] - zero[c]);
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/* Planes of bytes: one for grey, three for red, green and blue. */
function showPicture(canvas, bytes) {
  [canvas.width, canvas.height] = [width, height];
  const size = width * height;
  const image = new ImageData(width, height);
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = bytes[i + (channels === 3 ? c * size : 0)];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function element(tag, kind = "", text = "") {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text) made.textContent = text;
  return made;
}

/* -- the beginning ------------------------------------------------------------------------ */

const ratio = Math.min(2, Math.max(0.5, height / width));
paper.height = Math.round(paper.width * ratio);
[cursor.x, cursor.y] = [paper.width / 2, paper.height / 2];
byId("ink").value = MODEL.pictures.paper === "bright" ? "#000000" : "#ffffff";
byId("colour").hidden = channels === 1;
clearAll();
dark.addEventListener("change", () => showLayers(latest));
