"use strict";

const paper = document.getElementById("paper");
const pen = paper.getContext("2d", { willReadFrequently: true });
let drawing = false;
let busy = false;
let waiting = null;
/* Grows when the paper is cleared: answers to what stood there before are of no interest. */
let turn = 0;
let classes = [];
let shape = [1, 28, 28];
/* What drawings are made of, as the training images were. */
let [paperColour, inkColour] = ["#000", "#fff"];

/* Classes that are listed; of more than these the most probable ones. */
const MOST_BARS = 12;
/* Longest side of a picture that is sent, in pixels: the network sees far fewer. */
const LARGE = 1024;

function clearPaper() {
  pen.fillStyle = paperColour;
  pen.fillRect(0, 0, paper.width, paper.height);
}

function place(event) {
  const box = paper.getBoundingClientRect();
  return [
    ((event.clientX - box.left) * paper.width) / box.width,
    ((event.clientY - box.top) * paper.height) / box.height,
  ];
}

paper.addEventListener("pointerdown", (event) => {
  drawing = true;
  paper.setPointerCapture(event.pointerId);
  const [x, y] = place(event);
  pen.lineWidth = 22;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = inkColour;
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(x + 0.1, y);
  pen.stroke();
});
paper.addEventListener("pointermove", (event) => {
  if (!drawing) return;
  const [x, y] = place(event);
  pen.lineTo(x, y);
  pen.stroke();
  ask();
});
for (const name of ["pointerup", "pointercancel"]) {
  paper.addEventListener(name, () => {
    if (drawing) ask();
    drawing = false;
  });
}

function clearAnswer() {
  turn += 1;
  waiting = null;
  say("Nothing drawn yet");
  listBars(classes.map((name) => [name, 0]), "");
  for (const id of ["layers", "time"]) document.getElementById(id).replaceChildren();
  const [, height, width] = shape;
  show(document.getElementById("seen"), [height, width], [btoa("\0".repeat(height * width))]);
}

function say(text, wrong = false) {
  const answer = document.getElementById("answer");
  answer.textContent = text;
  answer.classList.toggle("wrong", wrong);
}

document.getElementById("clear").addEventListener("click", () => {
  clearPaper();
  clearAnswer();
});
document.getElementById("choose").addEventListener("click", () => {
  document.getElementById("file").click();
});
document.getElementById("file").addEventListener("change", (event) => {
  if (event.target.files.length) take(event.target.files[0]);
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
  if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
});

/* The browser turns photographs the right way up, knows more formats, and makes them small. */
async function take(file) {
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    say("That is no picture that this browser can read", true);
    return;
  }
  clearPaper();
  fit(pen, picture, paper.width, paper.height);
  const scale = Math.min(1, LARGE / Math.max(picture.width, picture.height));
  const copy = element("canvas");
  copy.width = Math.max(1, Math.round(picture.width * scale));
  copy.height = Math.max(1, Math.round(picture.height * scale));
  fit(copy.getContext("2d"), picture, copy.width, copy.height);
  sendCanvas(copy);
}

/* Draws a picture on white paper in the middle of a canvas, as large as it can be. */
function fit(context, picture, width, height) {
  const scale = Math.min(width / picture.width, height / picture.height);
  const [w, h] = [picture.width * scale, picture.height * scale];
  context.fillStyle = "#fff";
  context.fillRect((width - w) / 2, (height - h) / 2, w, h);
  context.drawImage(picture, (width - w) / 2, (height - h) / 2, w, h);
}

function ask() {
  sendCanvas(paper);
}

function sendCanvas(canvas) {
  const asked = turn;
  canvas.toBlob((blob) => {
    if (asked === turn) send(blob);
  }, "image/png");
}

/* One request at a time; of those that come meanwhile the last one counts. */
async function send(blob) {
  if (busy) {
    waiting = blob;
    return;
  }
  busy = true;
  const asked = turn;
  try {
    const reply = await fetch("api/predict?maps=1", {
      method: "POST",
      headers: { "Content-Type": "image/png" },
      body: blob,
    });
    const answer = await reply.json();
    if (asked === turn) {
      if (reply.ok) tell(answer);
      else say(answer.error, true);
    }
  } catch {
    if (asked === turn) say("The server does not answer", true);
  }
  busy = false;
  if (waiting) {
    const next = waiting;
    waiting = null;
    send(next);
  }
}

function listBars(shares, best) {
  let listed = shares;
  if (shares.length > MOST_BARS) {
    listed = [...shares].sort((a, b) => b[1] - a[1]).slice(0, MOST_BARS);
  }
  const bars = listed.map(([name, share]) => {
    const bar = element("div", name === best ? "bar best" : "bar");
    const track = element("i");
    const fill = element("b");
    fill.style.width = `${100 * share}%`;
    track.append(fill);
    bar.append(element("span", "", name), track, element("span", "", `${(100 * share).toFixed(1)} %`));
    return bar;
  });
  document.getElementById("bars").replaceChildren(...bars);
}

function tell(answer) {
  say(`It is ${answer.class}`);
  document.getElementById("time").textContent =
    [...answer.done, `${answer.milliseconds.toFixed(1)} ms`].join(", ");
  listBars(classes.map((name) => [name, answer.probabilities[name]]), answer.class);
  const { size, maps } = answer.input;
  show(document.getElementById("seen"), size, maps.length === 3 ? maps : maps.slice(0, 1));
  const layers = answer.layers.map((layer) => {
    const part = element("section");
    const title = element("h2", "", `${layer.name} `);
    const [low, high] = layer.range.map((value) => value.toPrecision(2));
    title.append(
      element("span", "", `${layer.operation}, ${layer.shape.join(" × ")}, ${low} to ${high}`)
    );
    const maps = element("div", "maps");
    const flat = layer.size[0] === 1;
    const scale = Math.max(1, Math.round(56 / Math.max(...layer.size)));
    layer.maps.forEach((map, index) => {
      const canvas = element("canvas");
      canvas.title = flat ? layer.name : `${layer.name}, channel ${index}`;
      show(canvas, layer.size, [map]);
      if (flat) {
        canvas.style.width = `${Math.min(560, 6 * layer.size[1])}px`;
        canvas.style.height = "14px";
      } else {
        canvas.style.width = `${scale * layer.size[1]}px`;
      }
      maps.append(canvas);
    });
    if (!flat && layer.shape[0] > layer.maps.length) {
      maps.append(element("span", "hint", `and ${layer.shape[0] - layer.maps.length} more`));
    }
    part.append(title, maps);
    return part;
  });
  document.getElementById("layers").replaceChildren(...layers);
}

/* Planes of bytes in base64, one for grey or three for red, green and blue. */
function show(canvas, [height, width], planes) {
  const bytes = planes.map(atob);
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const [red, green, blue] = [0, 1, 2].map((c) => bytes[bytes.length === 3 ? c : 0].charCodeAt(i));
    image.data.set([red, green, blue, 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function element(tag, kind = "", text = "") {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text) made.textContent = text;
  return made;
}

clearPaper();
clearAnswer();
fetch("api/model")
  .then((reply) => reply.json())
  .then((model) => {
    [classes, shape] = [model.classes, model.input_shape];
    if (model.paper === "bright") [paperColour, inkColour] = ["#fff", "#000"];
    clearPaper();
    const digits = shape[0] === 1 && classes.every((name) => /^[0-9]$/.test(name));
    const title = digits ? "Draw a digit" : "Draw or drop a picture";
    document.getElementById("title").textContent = title;
    document.title = `fastcnn: ${title.toLowerCase()}`;
    document.getElementById("model").textContent =
      `${model.name}: ${model.parameters.toLocaleString("en")} parameters, ` +
      `${classes.length} classes, pictures of ${shape.slice(1).join(" × ")} pixels`;
    clearAnswer();
  })
  .catch(() => say("The server does not answer", true));
