"use strict";

const paper = document.getElementById("paper");
const pen = paper.getContext("2d", { willReadFrequently: true });
let drawing = false;
let busy = false;
let waiting = null;

function clearPaper() {
  pen.fillStyle = "#000";
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
  pen.strokeStyle = "#fff";
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

document.getElementById("clear").addEventListener("click", () => {
  clearPaper();
  document.getElementById("answer").textContent = "Nothing drawn yet";
  for (const id of ["bars", "layers", "time"]) document.getElementById(id).replaceChildren();
  show(document.getElementById("seen"), [28, 28], btoa("\0".repeat(784)), 1);
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

async function take(file) {
  try {
    const picture = await createImageBitmap(file);
    const scale = Math.min(paper.width / picture.width, paper.height / picture.height);
    const [w, h] = [picture.width * scale, picture.height * scale];
    clearPaper();
    pen.drawImage(picture, (paper.width - w) / 2, (paper.height - h) / 2, w, h);
  } catch {
    document.getElementById("answer").textContent = "That is no picture";
    return;
  }
  send(file);
}

function ask() {
  paper.toBlob((blob) => send(blob), "image/png");
}

/* One request at a time; of those that come meanwhile the last one counts. */
async function send(blob) {
  if (busy) {
    waiting = blob;
    return;
  }
  busy = true;
  try {
    const reply = await fetch("api/predict?maps=1", {
      method: "POST",
      headers: { "Content-Type": blob.type || "image/png" },
      body: blob,
    });
    const answer = await reply.json();
    if (reply.ok) tell(answer);
    else document.getElementById("answer").textContent = answer.error;
  } catch {
    document.getElementById("answer").textContent = "The server does not answer";
  }
  busy = false;
  if (waiting) {
    const next = waiting;
    waiting = null;
    send(next);
  }
}

function tell(answer) {
  document.getElementById("answer").textContent = `It is ${answer.class}`;
  document.getElementById("time").textContent = `${answer.milliseconds.toFixed(1)} ms`;
  const bars = Object.entries(answer.probabilities).map(([name, share]) => {
    const bar = element("div", "bar");
    const track = element("i");
    const fill = element("b");
    fill.style.width = `${100 * share}%`;
    track.append(fill);
    bar.append(element("span", "", name), track, element("span", "", `${(100 * share).toFixed(1)} %`));
    return bar;
  });
  document.getElementById("bars").replaceChildren(...bars);
  show(document.getElementById("seen"), answer.input.size, answer.input.maps[0], 1);
  const layers = answer.layers.map((layer) => {
    const part = element("section");
    const title = element("h2", "", `${layer.name} `);
    const [low, high] = layer.range.map((value) => value.toPrecision(2));
    title.append(
      element("span", "", `${layer.operation}, ${layer.shape.join(" × ")}, ${low} to ${high}`)
    );
    const maps = element("div", "maps");
    const flat = layer.size[0] === 1;
    const scale = flat ? 1 : Math.max(1, Math.round(56 / layer.size[0]));
    for (const map of layer.maps) {
      const canvas = element("canvas");
      show(canvas, layer.size, map, scale);
      if (flat) {
        canvas.style.width = `${Math.min(560, 6 * layer.size[1])}px`;
        canvas.style.height = "14px";
      }
      maps.append(canvas);
    }
    part.append(title, maps);
    return part;
  });
  document.getElementById("layers").replaceChildren(...layers);
}

function show(canvas, [height, width], base64, scale) {
  const bytes = atob(base64);
  canvas.width = width;
  canvas.height = height;
  if (scale > 1) canvas.style.width = `${width * scale}px`;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const value = bytes.charCodeAt(i);
    image.data.set([value, value, value, 255], 4 * i);
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
show(document.getElementById("seen"), [28, 28], btoa("\0".repeat(784)), 1);
fetch("api/model")
  .then((reply) => reply.json())
  .then((model) => {
    document.getElementById("model").textContent =
      `${model.name}: ${model.parameters.toLocaleString("en")} parameters, ` +
      `classes ${model.classes.join(", ")}`;
  });
