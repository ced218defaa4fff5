const $ = (id) => document.getElementById(id);
const facts = JSON.parse($("facts").textContent);

// What the page holds as gzip in base64.
async function unpack(id) {
  const text = atob($(id).textContent);
  $(id).remove(); // the memory of a large network is needed once
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function load() {
  const script = new Blob([await unpack("ort-script")], { type: "text/javascript" });
  const ort = await import(URL.createObjectURL(script));
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await unpack("ort-binary");
  const session = await ort.InferenceSession.create(await unpack("network"), { executionProviders: ["wasm"] });
  return { ort, session };
}

// As Detectron2's ResizeShortestEdge: the shorter side to min_size, then the longer one to max_size at most.
function inputSize(height, width) {
  if (!facts.min_size) return [height, width];
  const scale = facts.min_size / Math.min(height, width);
  let sides = height < width ? [facts.min_size, scale * width] : [scale * height, facts.min_size];
  const shrink = facts.max_size / Math.max(...sides);
  if (shrink < 1) sides = sides.map((side) => side * shrink);
  return sides.map((side) => Math.floor(side + 0.5));
}

// For each place of a side of `to` pixels, where its samples among `from` pixels begin, and their weights.
function triangleFilter(from, to) {
  const scale = from / to, support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), from);
    const weights = [];
    for (let i = start; i < end; i++) weights.push(Math.max(1 - Math.abs((i - centre + 0.5) / support), 0));
    const sum = weights.reduce((a, b) => a + b, 0);
    // integers of 22 bits, as Pillow has them
    return { start, weights: Int32Array.from(weights, (w) => Math.trunc((w / sum) * 2 ** 22 + 0.5)) };
  });
}

// One direction of the resize of a plane: `length` places, `stride` apart, in each of `lines` lines, `step` apart.
function resizeLines(plane, length, stride, lines, step, filter) {
  const places = filter.length, out = new Uint8Array(places * lines);
  const [outStride, outStep] = stride === 1 ? [1, places] : [lines, 1];
  for (let line = 0; line < lines; line++) {
    for (let place = 0; place < places; place++) {
      const { start, weights } = filter[place];
      let sum = 2 ** 21; // a half
      for (let i = 0; i < weights.length; i++) sum += weights[i] * plane[line * step + (start + i) * stride];
      out[line * outStep + place * outStride] = Math.min(sum >> 22, 255);
    }
  }
  return out;
}

// (H, W, 4) to the planes that the network takes, each (H, W); grey is Pillow's luma.
function planes(rgba, size) {
  const filled = (value) => Uint8Array.from({ length: size }, (_, i) => value(4 * i));
  if (facts.format === "L") return [filled((i) => (19595 * rgba[i] + 38470 * rgba[i + 1] + 7471 * rgba[i + 2] + 32768) >> 16)];
  return [0, 1, 2].map((channel) => filled((i) => rgba[i + channel]));
}

// Pillow's bilinear resize of 8-bit pixels, bit for bit: planes (H, W) to (C, H', W'). Since Pillow 13 an image that loses more
// than twice as many rows as columns loses its rows first; before, a few pixels of such an image differ by 1.
function resize(planes, height, width, newHeight, newWidth) {
  const across = triangleFilter(width, newWidth), down = triangleFilter(height, newHeight);
  const rowsFirst = newHeight < height && height - newHeight > 2 * (width - newWidth);
  const resized = new Uint8Array(planes.length * newHeight * newWidth);
  planes.forEach((plane, channel) => {
    if (rowsFirst) plane = resizeLines(plane, height, width, width, 1, down);
    if (newWidth !== width) plane = resizeLines(plane, width, 1, rowsFirst ? newHeight : height, width, across);
    if (newHeight !== height && !rowsFirst) plane = resizeLines(plane, height, newWidth, newWidth, 1, down);
    resized.set(plane, channel * newHeight * newWidth);
  });
  return resized;
}

// The pixels of an image file, upright, as the file has them.
async function decode(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error(`${file.name} is no image that a browser can read (DICOM: tools/predict.py reads it).`);
  }
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  for (let i = 3; i < rgba.length; i += 4) {
    if (rgba[i] !== 255) throw new Error(`${file.name} is transparent in places: save it without transparency.`);
  }
  return { bitmap, rgba, width, height };
}

async function diagnose({ ort, session }, file) {
  const { bitmap, rgba, width, height } = await decode(file);
  const begin = performance.now();
  const [newHeight, newWidth] = inputSize(height, width);
  if (Math.min(newHeight, newWidth) < 1) throw new Error(`${file.name} is too narrow: ${width} x ${height} pixels.`);
  const channels = planes(rgba, height * width);
  const pixels = resize(channels, height, width, newHeight, newWidth);
  const images = new ort.Tensor("uint8", pixels, [1, channels.length, newHeight, newWidth]);
  const answer = await session.run({ images });
  const milliseconds = performance.now() - begin;
  // back to the image's own pixels
  const limits = [width, height, width, height], sizes = [newWidth, newHeight, newWidth, newHeight];
  const box = Array.from(answer.boxes.data, (x, i) => Math.min(Math.max((x * limits[i]) / sizes[i], 0), limits[i]));
  return { bitmap, width, height, box, malignancy: answer.malignancy.data[0], milliseconds };
}

function show(file, { bitmap, width, height, box, malignancy, milliseconds }) {
  const found = box[2] > box[0] && box[3] > box[1];
  const canvas = $("picture");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const thickness = Math.max(2, Math.max(width, height) / 250);
  for (const [colour, lineWidth] of [["#000a", 2 * thickness], ["#ffc61a", thickness]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth });
    if (found) context.strokeRect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
  }
  const name = facts.class_names[Number(malignancy >= facts.threshold)];
  $("name").textContent = file.name;
  $("class").textContent = name;
  $("class").className = `class ${name}`;
  $("probability").textContent = malignancy.toFixed(3);
  $("bar").style.width = `${100 * malignancy}%`;
  $("threshold").style.left = `${100 * facts.threshold}%`;
  $("box").textContent = found ? box.map((x) => x.toFixed(1)).join(", ") : "nothing found";
  $("size").textContent = `${width} × ${height} pixels`;
  $("time").textContent = `${milliseconds.toFixed(0)} ms`;
  $("result").dataset.answer = JSON.stringify({ file: file.name, box: found ? box : null, malignancy, class: name });
  $("result").hidden = false;
}

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").className = isError ? "error" : "";
}

let running = Promise.resolve();
function accept(network, files) {
  // one after the other, the last one stays
  running = running.then(async () => {
    const [file] = files;
    if (!file) return;
    $("result").hidden = true;
    say(`${file.name} is being looked at…`);
    await new Promise((done) => setTimeout(done)); // so that the line is seen
    try {
      show(file, await diagnose(network, file));
      say("");
    } catch (error) {
      say(error.message, true);
    }
  });
}

try {
  const network = await load();
  const drop = $("drop"), input = $("file");
  input.disabled = false;
  $("hint").textContent = "Drop an image here, or click to choose one.";
  input.addEventListener("change", () => accept(network, [...input.files]));
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, () => drop.classList.add("over"));
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  // dropped beside the field it would replace the page
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    accept(network, [...event.dataTransfer.files]);
  });
} catch (error) {
  $("hint").textContent = "The network could not be loaded.";
  say(`This browser cannot run it: ${error.message}`, true);
}
