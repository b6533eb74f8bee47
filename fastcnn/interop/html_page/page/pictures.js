/* How pixels become the network's input: what fastcnn.data.Pictures and Pillow do, number by
   number, so that the same pixels give the same sample. Planes are Uint8Array, row by row. */

/* Grey values up to which ink is paper; sides longer than LARGE are made shorter first. */
const INK = 32, LARGE = 1024, COLOURED = 24;

/* Python's rounding: halves go to the even neighbour. */
function round(value) {
  const low = Math.floor(value), rest = value - low;
  return rest === 0.5 ? low + (low % 2 ? 1 : 0) : Math.round(value);
}

/* Opaque pixels as a canvas has them (red, green, blue, alpha) to the network's bytes.
   Returns the planes of MODEL.shape, one after the other, and what was done in words. */
function sampleOf(rgba, width, height) {
  const [channels, H, W] = MODEL.shape;
  const rule = MODEL.pictures;
  const done = [];
  let planes = [0, 1, 2].map((c) => {
    const values = new Uint8Array(width * height);
    for (let i = 0; i < values.length; i++) values[i] = rgba[4 * i + c];
    return { values, width, height };
  });
  const smaller = Math.min(
    Math.ceil(Math.max(width, height) / LARGE),
    Math.max(1, Math.min(Math.floor(width / (2 * W)), Math.floor(height / (2 * H))))
  );
  if (smaller > 1) planes = planes.map((plane) => reduced(plane, smaller));
  if (channels === 1) {
    if (isColoured(planes)) done.push("colours read as grey");
    planes = [grey(planes)];
  }
  if (rule.inverts && rule.paper !== null) {
    const paper = paperOf(planes);
    if (paper !== rule.paper) {
      planes = planes.map(inverted);
      done.push(`inverted (it is on ${paper} paper)`);
    }
  }
  if (planes[0].width !== W || planes[0].height !== H) {
    if (rule.fit === "ink") {
      const box = inkBox(rule, H, W);
      done.push(`ink scaled to ${box} of ${Math.min(H, W)} pixels and centred`);
      planes = [centred(planes[0], box, H, W, rule.paper === "bright")];
    } else if (rule.fit === "crop") {
      done.push(`the middle resized to ${W} x ${H} pixels`);
      planes = planes.map((plane) => resized(middle(plane, H / W), H, W));
    } else {
      done.push(`stretched to ${W} x ${H} pixels`);
      planes = planes.map((plane) => resized(plane, H, W));
    }
  }
  const sample = new Uint8Array(channels * H * W);
  planes.forEach((plane, c) => sample.set(plane.values, c * H * W));
  return { sample, done };
}

function isColoured([red, green, blue]) {
  return red.values.some(
    (value, i) =>
      Math.abs(value - green.values[i]) > COLOURED ||
      Math.abs(green.values[i] - blue.values[i]) > COLOURED
  );
}

/* ITU-R 601-2 luma in 16 bits, as Pillow's convert("L"). */
function grey([red, green, blue]) {
  const values = red.values.map(
    (value, i) => (value * 19595 + green.values[i] * 38470 + blue.values[i] * 7471 + 0x8000) >> 16
  );
  return { ...red, values };
}

function inverted(plane) {
  return { ...plane, values: plane.values.map((value) => 255 - value) };
}

/* Whether the median of the border is dark or bright; the corners count twice. */
function paperOf(planes) {
  const border = planes.flatMap(({ values, width, height }) => {
    const last = (height - 1) * width;
    const rows = [...values.subarray(0, width), ...values.subarray(last)];
    for (let i = 0; i < height; i++) rows.push(values[i * width], values[(i + 1) * width - 1]);
    return rows;
  });
  border.sort((a, b) => a - b);
  const half = border.length / 2;
  return (border[half - 1] + border[half]) / 2 > 127 ? "bright" : "dark";
}

function part({ values, width }, top, left, rows, columns) {
  const kept = new Uint8Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    const from = (top + i) * width + left;
    kept.set(values.subarray(from, from + columns), i * columns);
  }
  return { values: kept, width: columns, height: rows };
}

/* The largest part in the middle whose height is ratio times its width. */
function middle(plane, ratio) {
  const { width, height } = plane;
  const rows = Math.max(1, Math.min(height, round(width * ratio)));
  const columns = Math.max(1, Math.min(width, round(height / ratio)));
  return part(plane, (height - rows) >> 1, (width - columns) >> 1, rows, columns);
}

function inkBox(rule, H, W) {
  return Math.max(1, round(rule.fill * Math.min(H, W)));
}

/* The ink, scaled to a box, with its centre of mass in the middle. */
function centred(plane, box, H, W, bright) {
  if (bright) plane = inverted(plane);
  const { values, width, height } = plane;
  let [top, bottom, left, right] = [height, -1, width, -1];
  for (let i = 0, at = 0; i < height; i++) {
    for (let j = 0; j < width; j++, at++) {
      if (values[at] <= INK) continue;
      [top, bottom] = [Math.min(top, i), i];
      [left, right] = [Math.min(left, j), Math.max(right, j)];
    }
  }
  const made = { values: new Uint8Array(H * W), width: W, height: H };
  if (bottom >= 0) {
    const sides = [bottom - top + 1, right - left + 1];
    const scale = box / Math.max(...sides);
    const [rows, columns] = sides.map((side) => Math.max(1, round(side * scale)));
    const ink = resized(part(plane, top, left, ...sides), rows, columns).values;
    let [mass, y, x] = [0, 0, 0];
    ink.forEach((value, i) => {
      mass += value;
      y += value * Math.floor(i / columns);
      x += value * (i % columns);
    });
    mass = Math.max(mass, 1);
    const place = (side, centre, length) =>
      Math.min(Math.max(round((side - 1) / 2 - centre), 0), side - length);
    const [row, column] = [place(H, y / mass, rows), place(W, x / mass, columns)];
    for (let i = 0; i < rows; i++) {
      made.values.set(ink.subarray(i * columns, (i + 1) * columns), (row + i) * W + column);
    }
  }
  return bright ? inverted(made) : made;
}

/* Means of squares of factor x factor pixels, as Pillow's reduce. */
function reduced({ values, width, height }, factor) {
  const [columns, rows] = [Math.ceil(width / factor), Math.ceil(height / factor)];
  const made = new Uint8Array(rows * columns);
  for (let i = 0, at = 0; i < rows; i++) {
    const bottom = Math.min(height, (i + 1) * factor);
    for (let j = 0; j < columns; j++) {
      const right = Math.min(width, (j + 1) * factor);
      const count = (bottom - i * factor) * (right - j * factor);
      let sum = Math.floor(count / 2);
      for (let h = i * factor; h < bottom; h++) {
        for (let w = j * factor; w < right; w++) sum += values[h * width + w];
      }
      made[at++] = Math.floor((sum * Math.trunc(Math.fround(2 ** 24 / count))) / 2 ** 24);
    }
  }
  return { values: made, width: columns, height: rows };
}

/* Pillow's Lanczos resampling of eight-bit planes: the width first, weights of 22 bits. */
function resized(plane, height, width) {
  if (plane.width !== width) {
    plane = transposed(rowsResized(transposed(plane), width));
  }
  return plane.height === height ? plane : rowsResized(plane, height);
}

function transposed({ values, width, height }) {
  const made = new Uint8Array(values.length);
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) made[j * height + i] = values[i * width + j];
  }
  return { values: made, width: height, height: width };
}

function rowsResized({ values, width, height }, rows) {
  const made = new Uint8Array(rows * width);
  const scale = height / rows, stretch = Math.max(scale, 1), support = 3 * stretch;
  const sums = new Float64Array(width);
  for (let i = 0; i < rows; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(height, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let h = first; h < last; h++) weights.push(lanczos((h - centre + 0.5) / stretch));
    const total = weights.reduce((a, b) => a + b);
    sums.fill(2 ** 21);
    weights.forEach((weight, k) => {
      const share = (weight / total) * 2 ** 22;
      const whole = Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
      for (let j = 0, at = (first + k) * width; j < width; j++) sums[j] += whole * values[at + j];
    });
    for (let j = 0; j < width; j++) {
      made[i * width + j] = Math.min(255, Math.max(0, Math.floor(sums[j] / 2 ** 22)));
    }
  }
  return { values: made, width, height: rows };
}

function lanczos(x) {
  const sinc = (z) => (z === 0 ? 1 : Math.sin(z * Math.PI) / (z * Math.PI));
  return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}
