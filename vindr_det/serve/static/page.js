"use strict";
const LEAST_SCORE = 0.05, COMPARED_SCORE = 0.3, MAPS = 5;
const at = (id) => document.getElementById(id);
let about = { max_upload_bytes: Infinity, colors: [] }, report = null, shownMap = null, latest = 0;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function fail(text) {
  at("state").textContent = "";
  at("problem").textContent = text;
  at("problem").hidden = false;
}

async function predict(file) {
  const turn = ++latest;
  at("problem").hidden = at("answer").hidden = true;
  if (file.size > about.max_upload_bytes) {
    return fail(`The file has ${file.size.toLocaleString("en")} bytes, expected at most ${about.max_upload_bytes.toLocaleString("en")}.`);
  }
  at("state").textContent = "Reading and predicting …";
  const form = new FormData();
  form.append("file", file, "upload");  // its name may be a patient's
  let answer, body;
  try {
    answer = await fetch(`/predict?score=${LEAST_SCORE}&picture=true&maps=${MAPS}&compared_score=${COMPARED_SCORE}`, { method: "POST", body: form });
    body = await answer.json();
  } catch {
    if (turn === latest) fail("The service did not answer. Is it still running?");
    return;
  }
  if (turn !== latest) return;
  if (!answer.ok) return fail(body.status === "failed" ? `Not read: ${body.reason}. Nothing is known about this image.` : body.detail);
  report = body;
  shownMap = null;
  at("state").textContent = `Done: ${report.width} × ${report.height} pixels, ${report.status}.`;
  show();
}

function show() {
  at("answer").hidden = false;
  at("reason").hidden = !report.reason;
  at("reason").textContent = `Flagged: ${report.reason}`;
  at("no-finding").textContent = report.no_finding === null ? "" : `No finding: score ${report.no_finding.toFixed(2)}`;
  const { picture, maps, ...rest } = report;
  at("json").textContent = JSON.stringify(rest, null, 1);
  at("compared").textContent = COMPARED_SCORE.toFixed(2);
  showLabels();
  showBoxes();
}

function showBoxes() {
  const least = Number(at("score").value);
  at("score-value").textContent = least.toFixed(2);
  const boxes = (report.boxes || []).filter((box) => box.score >= least);
  at("count").textContent = report.boxes === null ? "The models have no boxes."
    : `${boxes.length} ${boxes.length === 1 ? "box" : "boxes"} from score ${least.toFixed(2)}` +
      (boxes.length ? "" : ". That is no statement that the image is normal.");
  at("boxes").replaceChildren(...boxes.map(row));
  showFilm(boxes);
}

function row(box, number) {
  const name = element("button", { class: "link", type: "button" }, element("span", { class: "swatch" }), box.class_name);
  name.firstChild.style.background = about.colors[box.class_id];
  const corners = [box.x_min, box.y_min, box.x_max, box.y_max].map(Math.round);
  const made = element("tr", {}, element("td", {}, name), element("td", { class: "number" }, box.score.toFixed(2)),
    element("td", {}, `${corners[0]}, ${corners[1]} to ${corners[2]}, ${corners[3]}`));
  const mark = (on) => () => {
    made.classList.toggle("chosen", on);
    at("film").querySelector(`rect[data-box="${number}"]`)?.classList.toggle("chosen", on);
  };
  made.addEventListener("mouseenter", mark(true));
  made.addEventListener("mouseleave", mark(false));
  name.addEventListener("focus", mark(true));
  name.addEventListener("blur", mark(false));
  return made;
}

function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((start) => (parseInt(color.slice(start, start + 2), 16) / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}

function showFilm(boxes) {
  const { width, height } = report, film = at("film"), size = 13 * width / (film.clientWidth || width);
  film.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const whole = { width, height, preserveAspectRatio: "none" };
  const parts = [drawn("image", { href: report.picture, ...whole })];
  if (shownMap) parts.push(drawn("image", { href: shownMap.picture, ...whole }));
  if (at("show-boxes").checked) {
    boxes.forEach((box, number) => {
      const color = about.colors[box.class_id];
      parts.push(drawn("rect", { x: box.x_min, y: box.y_min, width: box.x_max - box.x_min, height: box.y_max - box.y_min,
        stroke: color, "data-box": number }));
      parts.push(drawn("text", { x: box.x_min, y: Math.max(size, box.y_min - size / 4), fill: inkOn(color), stroke: color, "font-size": size,
        "stroke-width": size / 4 }, `${box.class_name} ${box.score.toFixed(2)}`));
    });
  }
  film.replaceChildren(...parts);
  placeNames([...film.querySelectorAll("text")], width, size * 1.2);
  const names = boxes.map((box) => `${box.class_name} ${box.score.toFixed(2)}`).join(", ");
  film.setAttribute("aria-label", `The image with ${names || "no box"}${shownMap ? `, under the map of ${shownMap.column}` : ""}`);
  at("bar").hidden = !shownMap;
}

// Names lie within the picture, each below those that it would hide.
function placeNames(names, width, step) {
  const placed = [];
  for (const name of names) {
    const { x, y, width: wide } = name.getBBox(), left = Math.max(0, Math.min(x, width - wide));
    const hides = (top) => placed.find((other) => left < other.right && other.left < left + wide &&
      top < other.top + step && other.top < top + step);
    let top = y;
    for (let other = hides(top); other; other = hides(top)) top = other.top + step;
    name.setAttribute("x", left);
    name.setAttribute("y", Number(name.getAttribute("y")) + top - y);
    placed.push({ left, right: left + wide, top });
  }
}

function showLabels() {
  const named = Object.entries(report.probabilities || {}).sort((a, b) => b[1] - a[1]);
  const maps = new Map((report.maps || []).map((map) => [map.column, map]));
  at("classifier").hidden = !named.length;
  at("labels").replaceChildren(...named.map(([column, value]) => labelRow(column, value, maps.get(column))));
}

function labelRow(column, value, map) {
  const cell = (text, number = false) => element("td", number ? { class: "number" } : {}, text);
  const share = (part) => (part === null || part === undefined ? "" : part.toFixed(2));
  const made = element("tr", {}, cell(column), cell(value.toFixed(3), true), cell(""), cell(share(map?.energy_in_boxes), true),
    cell(share(map?.area_of_boxes), true), cell({ true: "yes", false: "no" }[map?.maximum_in_box] ?? ""));
  if (map) {
    const button = element("button", { class: "map", type: "button", "aria-pressed": "false", "aria-label": `Map of ${column}` }, "show");
    button.addEventListener("click", () => {
      shownMap = shownMap === map ? null : map;
      document.querySelectorAll("button.map").forEach((other) => other.setAttribute("aria-pressed", "false"));
      button.setAttribute("aria-pressed", String(shownMap === map));
      showBoxes();
    });
    made.children[2].append(button);
  }
  return made;
}

async function start() {
  about = await (await fetch("/about")).json();
  at("bundle").textContent = about.bundle.split("/").pop();
  at("notice").textContent = about.notice ? `Caution: ${about.notice}.` : "";
  at("version").textContent = `vindr_det ${about.version}, bundle ${about.digest.slice(0, 12)}`;
}

at("form").addEventListener("submit", (event) => event.preventDefault());
at("file").addEventListener("change", () => {
  const [file] = at("file").files;
  at("file").value = "";  // the same file again is a change as well, and its name is nowhere
  if (file) predict(file);
});
addEventListener("resize", () => report && showBoxes());
at("score").addEventListener("input", showBoxes);
at("show-boxes").addEventListener("change", showBoxes);
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) predict(event.dataTransfer.files[0]);
  });
}
start().catch(() => fail("The service did not answer. Is it still running?"));
