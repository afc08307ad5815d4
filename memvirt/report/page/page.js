"use strict";
// What the page does: it draws figures into the width there is, sorts and filters tables, and writes files to download.

// Figures, their data, the drawing library and the numbers to download are packed: deflated, in base64.
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}
const read = async (id) => JSON.parse(await unpacked(`read-${id}`));
let shared, figures, config;

// ---- figures

const values = (column) => (Array.isArray(column) ? column : column.at.map((index) => column.names[index]));
const rowsOf = (columns) => {
  const found = Object.entries(columns).map(([field, column]) => [field, values(column)]);
  return found[0][1].map((_, row) => Object.fromEntries(found.map(([field, column]) => [field, column[row]])));
};

// Every panel's width times a factor; what is no view is left alone.
const stretched = (part, factor) => {
  if (Array.isArray(part)) return part.map((each) => stretched(each, factor));
  if (part === null || typeof part !== "object") return part;
  return Object.fromEntries(Object.entries(part).map(([key, value]) => [key,
    key === "width" && typeof value === "number" ? Math.max(30, value * factor)
      : key === "data" || key === "encoding" || key === "mark" ? value : stretched(value, factor)]));
};

// Rows of bars are as far apart on the screen as letters there need.
const STEP = 16;
const spaced = (part) => {
  if (Array.isArray(part)) return part.map(spaced);
  if (part === null || typeof part !== "object") return part;
  return Object.fromEntries(Object.entries(part).map(([key, value]) =>
    [key, key === "height" && value.step ? { step: Math.max(STEP, value.step) } : key === "encoding" ? value : spaced(value)]));
};

const strokes = (part) => part !== null && typeof part === "object"
  && (Boolean(part.legend && part.legend.symbolSize) || Object.entries(part).some(([key, each]) => key !== "data" && strokes(each)));
const longest = (part) => {
  if (part === null || typeof part !== "object") return 1;
  const own = part.legend && part.legend.values ? part.legend.values.map((name) => name.length) : [];
  return Math.max(1, ...own, ...Object.entries(part).map(([key, each]) => (key === "data" ? 1 : longest(each))));
};

// Runs stand beside each other where there is room, else below each other, on the same scales.
const ofOneRun = (part) => {
  if (part.hconcat) return { ...part, hconcat: part.hconcat.map(ofOneRun) };
  const { facet, spec, ...rest } = part;
  const { column, ...rows } = facet;
  return rows.row ? { ...rest, facet: rows, spec } : { ...rest, ...spec };
};
const stacked = ({ data, usermeta, description, ...view }) => ({
  data, usermeta, description,
  resolve: view.hconcat ? {} : { scale: { x: "shared", y: "shared" } },
  vconcat: [...new Set(data.values.map((row) => row.run))].map((run) => (
    { ...ofOneRun(view), title: { text: run, anchor: "start" }, transform: [{ filter: { field: "run", equal: run } }] })),
});

const NARROW = 480, NEAR = 24, LEAST = 0.2; // pixels: a phone, what may be left of the width; share of a panel's own width

// Vega-Lite guesses how tall rows of different steps are, says so each time, and guesses right.
const { warn } = console;
console.warn = (...said) => { if (!String(said[1]).startsWith("Detected faceted independent scales")) warn.apply(console, said); };
// To a screen reader a figure is one image with its description: hundreds of marks read out one by one tell nobody anything.
async function embed(place, spec, own) {
  const drawn = await vegaEmbed(place, spec, { renderer: "svg", actions: false, defaultStyle: false, config: own });
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", spec.description);
  place.querySelector("svg").setAttribute("aria-hidden", "true");
  return drawn;
}

async function draw(place) {
  const { across: nominal, runs } = { runs: 1, ...figures[place.dataset.figure].usermeta };
  const room = place.clientWidth;
  if (!room) return;
  let spec = { ...spaced(figures[place.dataset.figure]), data: { values: rowsOf(shared[figures[place.dataset.figure].data]) } };
  let across = nominal;
  if (room < NARROW && runs > 1) {
    spec = stacked(spec);
    across = nominal / runs;
  }
  const letters = 7.5 * Math.min(20, longest(spec)) + (strokes(spec) ? 58 : 36);
  const columns = Math.max(1, Math.min(4, Math.floor((room - 40) / letters)));
  const limit = room < NARROW ? 122 : 150;
  const own = { ...config, legend: { ...config.legend, columns }, axis: { ...config.axis, labelLimit: limit } };
  let drawn = await embed(place, spec, own);
  for (let turn = 0; turn < 3; turn += 1) {
    const width = Number(place.querySelector("svg").getAttribute("width"));
    const spare = room - width;
    if (spare >= 0 && spare < NEAR) break;
    const factor = Math.max(LEAST, (room - NEAR / 3 - (width - across)) / across);
    if (factor === LEAST && turn) break;
    spec = stretched(spec, factor);
    across *= factor;
    drawn.finalize();
    drawn = await embed(place, spec, own);
  }
  place.dataset.drawn = room;
}

// One after the other, so that the page answers meanwhile; those in sight first.
const waiting = new Set();
let busy = false;
async function work() {
  if (busy) return;
  busy = true;
  while (waiting.size) {
    const inSight = (place) => { const box = place.getBoundingClientRect(); return box.bottom > 0 && box.top < innerHeight; };
    const place = [...waiting].find(inSight) || [...waiting][0];
    waiting.delete(place);
    try {
      await draw(place);
    } catch (error) {
      place.textContent = "This figure could not be drawn.";
      console.error(error);
    }
    await new Promise((go) => setTimeout(go, 0));
  }
  busy = false;
  document.documentElement.dataset.ready = "yes";
}
const drawAll = () => {
  if (!config) return;
  for (const place of document.querySelectorAll("[data-figure]")) {
    if (!place.closest("details:not([open])") && String(place.clientWidth) !== place.dataset.drawn) waiting.add(place);
  }
  work();
};
let settling;
addEventListener("resize", () => { clearTimeout(settling); settling = setTimeout(drawAll, 200); });
for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", drawAll);

// On paper what is folded would be lost: what a reader needs is unfolded for it.
const folded = [];
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details.printed:not([open])")) {
    part.open = true;
    folded.push(part);
  }
});
addEventListener("afterprint", () => { for (const part of folded.splice(0)) part.open = false; });

// ---- tables

// A frame that holds more than it shows says so above itself; its edges are shaded, too.
function hints() {
  for (const frame of document.querySelectorAll(".scroll")) {
    const ways = [frame.scrollWidth > frame.clientWidth + 1 && "sideways", frame.scrollHeight > frame.clientHeight + 1 && "down"].filter(Boolean);
    frame.classList.toggle("sideways", ways.includes("sideways"));
    let hint = frame.previousElementSibling;
    if (!hint || !hint.classList.contains("hint")) {
      hint = document.createElement("p");
      hint.className = "hint";
      frame.before(hint);
    }
    hint.hidden = !ways.length;
    hint.textContent = `There is more in this frame: scroll ${ways.join(" and ")}.`;
  }
}
hints();
addEventListener("resize", hints);
for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", hints);

const compare = (a, b) => {
  if (a === b) return 0;
  if (a === "") return 1;
  if (b === "") return -1;
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? (a < b ? -1 : 1) : x - y;
};
const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();

function sortBy(head) {
  const table = head.closest("table"), column = head.cellIndex;
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => {
    const [x, y] = [key(a, column), key(b, column)];
    return x === "" || y === "" ? compare(x, y) : up ? compare(x, y) : compare(y, x);
  });
  table.tBodies[0].append(...rows);
}
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => sortBy(button.closest("th")));

function filter(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...document.getElementById(input.dataset.table).tBodies[0].rows];
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  document.getElementById(input.getAttribute("aria-describedby")).textContent = `${shown} of ${rows.length} rows`;
}
for (const input of document.querySelectorAll("input[data-table]")) input.addEventListener("input", () => filter(input));

// ---- files

// The long frame: a line for each number of each record, spelled as in the record.
function* lines({ metrics, units, cells, places }) {
  for (let i = 0; i < cells.length; i += 1) {
    const [which, values] = cells[i];
    for (let j = 0; j < which.length; j += 1) yield [...places[i], metrics[which[j]], units[which[j]], values[j]];
  }
}
const quoted = (value) => (/[",\r\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
const FILES = {
  csv: (frame) => [frame.columns, ...lines(frame)].map((line) => line.map(quoted).join(",")).join("\n") + "\n",
  json: (frame) => JSON.stringify({ format: "memvirt-table", columns: frame.columns, rows: [...lines(frame)] }),
};
for (const button of document.querySelectorAll("button[data-file]")) {
  button.addEventListener("click", async () => {
    const kind = button.dataset.file;
    const type = kind === "csv" ? "text/csv" : "application/json";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([FILES[kind](await read("frame"))], { type }));
    link.download = `memvirt.${kind}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

// ---- begin: the library runs as the script that it was packed as, which the page's policy knows by its hash

async function begin() {
  try {
    const script = document.createElement("script");
    script.textContent = await unpacked("library");
    document.head.append(script);
    [shared, figures, config] = await Promise.all(["shared", "figures", "config"].map(read));
  } catch (error) {
    for (const place of document.querySelectorAll("[data-figure]")) {
      place.textContent = "Figures need a browser of 2023 or later. 'memvirt plot' draws them without one.";
    }
    document.documentElement.dataset.ready = "yes";
    console.error(error);
    return;
  }
  drawAll();
}
begin();
