/* The loops of each operation, for one sample. All arrays are Float32Array, maps lie row by row.
   g holds sizes. Sums are in double precision, as JavaScript's numbers are. */

/* g: channels, height, width, outputs, height, width, kernel 2, stride 2, padding 2, dilation 2,
   groups */
function conv2d(x, w, b, y, g) {
  const [C, H, W, O, OH, OW, KH, KW, SH, SW, PH, PW, DH, DW, G] = g;
  const inputs = C / G, outputs = O / G, size = OH * OW, taps = inputs * KH * KW;
  /* A copy with its padding has no edges to look out for. */
  const rows = Math.max((OH - 1) * SH + (KH - 1) * DH + 1, PH + H);
  const columns = Math.max((OW - 1) * SW + (KW - 1) * DW + 1, PW + W);
  const padded = new Float32Array(C * rows * columns);
  for (let i = 0; i < C * H; i++) {
    const row = Math.floor(i / H) * rows + PH + (i % H);
    padded.set(x.subarray(i * W, (i + 1) * W), row * columns + PW);
  }
  const places = new Int32Array(taps);
  for (let c = 0, t = 0; c < inputs; c++) {
    for (let k = 0; k < KH; k++) {
      for (let l = 0; l < KW; l++) places[t++] = (c * rows + k * DH) * columns + l * DW;
    }
  }
  /* Four outputs share what is read; the last four may overlap those before. */
  const together = outputs < 4 ? 1 : 4;
  for (let group = 0; group < G; group++) {
    for (let o = 0; o < outputs; o += together) {
      const first = group * outputs + Math.min(o, outputs - together);
      for (let at = 0; at < size; at++) {
        const row = group * inputs * rows + Math.floor(at / OW) * SH;
        const from = row * columns + (at % OW) * SW;
        if (together === 1) y[first * size + at] = dot(padded, from, places, w, first * taps);
        else dots(padded, from, places, w, first * taps, y, first * size + at, size);
      }
    }
  }
  for (let i = 0; b && i < y.length; i++) y[i] += b[Math.floor(i / size)];
}

function dot(x, from, places, w, at) {
  let sum = 0;
  for (let t = 0; t < places.length; t++) sum += w[at + t] * x[from + places[t]];
  return sum;
}

/* Those of four rows of weights, written size apart. */
function dots(x, from, places, w, at, y, to, size) {
  const n = places.length;
  let [first, second, third, fourth] = [0, 0, 0, 0];
  for (let t = 0; t < n; t++) {
    const value = x[from + places[t]];
    first += w[at + t] * value;
    second += w[at + n + t] * value;
    third += w[at + 2 * n + t] * value;
    fourth += w[at + 3 * n + t] * value;
  }
  y[to] = first;
  y[to + size] = second;
  y[to + 2 * size] = third;
  y[to + 3 * size] = fourth;
}

/* g: as for conv2d; w has the shape (channels, outputs / groups, kernel 2) */
function conv_transpose2d(x, w, b, y, g) {
  const [C, H, W, O, OH, OW, KH, KW, SH, SW, PH, PW, DH, DW, G] = g;
  const inputs = C / G, outputs = O / G, size = OH * OW;
  for (let o = 0; o < O; o++) {
    const group = Math.floor(o / outputs) * inputs;
    y.fill(b ? b[o] : 0, o * size, (o + 1) * size);
    for (let c = group; c < group + inputs; c++) {
      for (let i = 0; i < H; i++) {
        for (let k = 0; k < KH; k++) {
          const h = i * SH - PH + k * DH;
          if (h < 0 || h >= OH) continue;
          for (let l = 0; l < KW; l++) {
            const weight = w[((c * outputs + (o % outputs)) * KH + k) * KW + l];
            for (let j = 0; j < W; j++) {
              const at = j * SW - PW + l * DW;
              if (at < 0 || at >= OW) continue;
              y[(o * OH + h) * OW + at] += weight * x[(c * H + i) * W + j];
            }
          }
        }
      }
    }
  }
}

function linear(x, w, b, y) {
  const inputs = x.length;
  for (let o = 0; o < y.length; o++) {
    let sum = b ? b[o] : 0;
    for (let i = 0, at = o * inputs; i < inputs; i++) sum += w[at + i] * x[i];
    y[o] = sum;
  }
}

/* g: channels, height, width, output height, output width, kernel 2, stride 2, padding 2 */
function max_pool2d(x, y, g) {
  const [C, H, W, OH, OW, KH, KW, SH, SW, PH, PW, DH, DW] = g;
  /* The first pixel inside is as many steps from the window's first. */
  const inside = (first, step) => first < 0 ? first + step * Math.ceil(-first / step) : first;
  for (let c = 0, at = 0; c < C; c++) {
    for (let i = 0; i < OH; i++) {
      const top = inside(i * SH - PH, DH), bottom = Math.min(H, i * SH - PH + DH * (KH - 1) + 1);
      for (let j = 0; j < OW; j++) {
        const left = inside(j * SW - PW, DW), right = Math.min(W, j * SW - PW + DW * (KW - 1) + 1);
        let best = -Infinity;
        for (let h = top; h < bottom; h += DH) {
          for (let l = left; l < right; l += DW) best = Math.max(best, x[(c * H + h) * W + l]);
        }
        y[at++] = best;
      }
    }
  }
}

/* g: as for max_pool2d up to the padding, and the padding that counts 2 */
function avg_pool2d(x, y, g) {
  const [C, H, W, OH, OW, KH, KW, SH, SW, PH, PW, CH, CW] = g;
  const counted = (first, size, end, padding) =>
    Math.min(first + size, end + padding) - Math.max(first, -padding);
  for (let c = 0, at = 0; c < C; c++) {
    for (let i = 0; i < OH; i++) {
      const top = Math.max(0, i * SH - PH), bottom = Math.min(H, i * SH - PH + KH);
      for (let j = 0; j < OW; j++) {
        const left = Math.max(0, j * SW - PW), right = Math.min(W, j * SW - PW + KW);
        let sum = 0;
        for (let h = top; h < bottom; h++) {
          for (let l = left; l < right; l++) sum += x[(c * H + h) * W + l];
        }
        y[at++] = sum / (counted(i * SH - PH, KH, H, CH) * counted(j * SW - PW, KW, W, CW));
      }
    }
  }
}

/* g: channels, height, width, output height, output width */
function adaptive_avg_pool2d(x, y, g) {
  const [C, H, W, OH, OW] = g;
  for (let c = 0, at = 0; c < C; c++) {
    for (let i = 0; i < OH; i++) {
      const top = Math.floor((i * H) / OH), bottom = Math.ceil(((i + 1) * H) / OH);
      for (let j = 0; j < OW; j++) {
        const left = Math.floor((j * W) / OW), right = Math.ceil(((j + 1) * W) / OW);
        let sum = 0;
        for (let h = top; h < bottom; h++) {
          for (let l = left; l < right; l++) sum += x[(c * H + h) * W + l];
        }
        y[at++] = sum / ((bottom - top) * (right - left));
      }
    }
  }
}

/* g: as for adaptive_avg_pool2d */
function adaptive_max_pool2d(x, y, g) {
  const [C, H, W, OH, OW] = g;
  for (let c = 0, at = 0; c < C; c++) {
    for (let i = 0; i < OH; i++) {
      const top = Math.floor((i * H) / OH), bottom = Math.ceil(((i + 1) * H) / OH);
      for (let j = 0; j < OW; j++) {
        const left = Math.floor((j * W) / OW), right = Math.ceil(((j + 1) * W) / OW);
        let best = -Infinity;
        for (let h = top; h < bottom; h++) {
          for (let l = left; l < right; l++) best = Math.max(best, x[(c * H + h) * W + l]);
        }
        y[at++] = best;
      }
    }
  }
}

/* rows, columns: the first and the second that an output lies between, and the second's share */
function bilinear(x, y, rows, columns, g) {
  const [C, H, W, OH, OW] = g;
  for (let c = 0, at = 0; c < C; c++) {
    for (let i = 0; i < OH; i++) {
      const a = (c * H + rows[i]) * W, b = (c * H + rows[OH + i]) * W, p = rows[2 * OH + i];
      for (let j = 0; j < OW; j++) {
        const l = columns[j], r = columns[OW + j];
        const left = x[a + l] + p * (x[b + l] - x[a + l]);
        const right = x[a + r] + p * (x[b + r] - x[a + r]);
        y[at++] = left + columns[2 * OW + j] * (right - left);
      }
    }
  }
}

/* g: channels, pixels, channels that are summed up */
function local_response_norm(x, y, g, alpha, beta, k) {
  const [C, pixels, size] = g;
  for (let c = 0; c < C; c++) {
    const first = c - Math.floor(size / 2);
    for (let i = 0; i < pixels; i++) {
      let sum = 0;
      for (let d = Math.max(0, first); d < Math.min(C, first + size); d++) {
        sum += x[d * pixels + i] ** 2;
      }
      y[c * pixels + i] = x[c * pixels + i] * (k + alpha * sum) ** -beta;
    }
  }
}

/* Each output of a part is a number of the part, or zero where the place is negative. */
function move(x, y, parts, places) {
  const inputs = x.length / parts;
  for (let c = 0, at = 0; c < parts; c++) {
    for (const place of places) y[at++] = place < 0 ? 0 : x[c * inputs + place];
  }
}

/* g: sets, their size, the step in a set, and where factors are */
function normalise(x, y, w, b, eps, centred, g) {
  const [A, K, B, divisor, count] = g;
  for (let a = 0; a < A; a++) {
    for (let j = 0; j < B; j++) {
      const first = a * K * B + j;
      let mean = 0, square = 0;
      for (let k = 0; centred && k < K; k++) mean += x[first + k * B];
      mean /= K;
      for (let k = 0; k < K; k++) square += (x[first + k * B] - mean) ** 2;
      const scale = 1 / Math.sqrt(square / K + eps);
      for (let k = 0; k < K; k++) {
        const i = first + k * B, place = Math.floor(i / divisor) % count;
        y[i] = (x[i] - mean) * scale * (w ? w[place] : 1) + (b ? b[place] : 0);
      }
    }
  }
}

function channelSoftmax(x, y, logarithm, g) {
  const [, K, B] = g;
  for (let j = 0; j < B; j++) {
    let largest = -Infinity, sum = 0;
    for (let k = 0; k < K; k++) largest = Math.max(largest, x[j + k * B]);
    for (let k = 0; k < K; k++) sum += Math.exp(x[j + k * B] - largest);
    for (let k = 0; k < K; k++) {
      const value = x[j + k * B] - largest;
      y[j + k * B] = logarithm ? value - Math.log(sum) : Math.exp(value) / sum;
    }
  }
}

function softmax(x) {
  const largest = x.reduce((a, b) => Math.max(a, b));
  const powers = Array.from(x, (value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((value) => value / sum);
}

function sigmoid(x) {
  const e = Math.exp(-Math.abs(x));
  return (x >= 0 ? 1 : e) / (1 + e);
}

/* log(1 + exp(x)) */
function log1p_exp(x) {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

/* Distribution function of the standard normal: Press and others, "Numerical Recipes in C", 2nd
   edition, section 6.2, erfcc; relative error below 1.2e-7. */
function normal_cdf(x) {
  const z = Math.abs(x) * Math.SQRT1_2;
  const t = 1 / (1 + 0.5 * z);
  const terms = [
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418,
    0.37409196, 1.00002368, -1.26551223,
  ];
  let sum = 0;
  for (const term of terms) sum = sum * t + term;
  const tail = 0.5 * t * Math.exp(sum - z * z);
  return x < 0 ? tail : 1 - tail;
}

/* Little-endian float32 in base64. */
function decodeWeights(text) {
  const bytes = atob(text.replace(/\s/g, ""));
  const view = new DataView(new ArrayBuffer(bytes.length));
  for (let i = 0; i < bytes.length; i++) view.setUint8(i, bytes.charCodeAt(i));
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/* What the network gives for a sample of bytes: probabilities of classes, or its outputs. */
function predict(network, sample) {
  const each = sample.length / MODEL.shape[0];
  const numbers = Float32Array.from(sample, (byte, i) => {
    const channel = Math.floor(i / each);
    return byte * MODEL.scale[channel] + MODEL.shift[channel];
  });
  for (const step of network) step.run(numbers);
  const outputs = network[network.length - 1].output;
  return MODEL.softmax ? softmax(outputs) : Array.from(outputs);
}
