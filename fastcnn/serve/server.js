/* A server runs the network. Pictures of any size are sent with a longest side of LONGEST pixels:
   the network sees far fewer. */
const MOST_PIXELS = Infinity, LONGEST = 1024;

/* One request at a time; of those that come meanwhile the last one counts. */
let busy = false;
let waiting = null;

function look(context) {
  const asked = turn;
  context.canvas.toBlob((picture) => send(picture, asked), "image/png");
}

async function send(picture, asked) {
  if (asked !== turn) return;
  if (busy) {
    waiting = [picture, asked];
    return;
  }
  busy = true;
  try {
    const headers = { "Content-Type": "image/png" };
    const reply = await fetch("api/predict?maps=1", { method: "POST", headers, body: picture });
    const found = await reply.json();
    if (asked === turn) {
      if (reply.ok) answer(read(found));
      else warn(found.error);
    }
  } catch {
    if (asked === turn) warn("The server does not answer");
  }
  busy = false;
  if (waiting) {
    const next = waiting;
    waiting = null;
    send(...next);
  }
}

function read({ input, done, probabilities, layers, milliseconds }) {
  return {
    sample: bytesOf(input.maps),
    done,
    outputs: MODEL.classes.map((name) => probabilities[name]),
    steps: layers.map((layer) => {
      const [low, high] = layer.range;
      const output = Float32Array.from(bytesOf(layer.maps), (byte) => low + (byte * (high - low)) / 255);
      return { ...layer, output };
    }),
    time: `${milliseconds.toFixed(1)} ms`,
  };
}

/* Bytes of maps in base64, one map after the other. */
function bytesOf(maps) {
  return Uint8Array.from(maps.map(atob).join(""), (letter) => letter.charCodeAt(0));
}
