// The case browser: a list, a picture, a table of boxes; its state is in the page's address.

const KEYS = new Map([
  ["j", ["next case", () => byId("next").click()]], ["k", ["previous case", () => byId("previous").click()]],
  ["t", ["true boxes", () => toggleLayer(TRUTH)]], ["p", ["predictions", () => toggleLayer(PREDICTED)]],
  ["r", ["all readers", () => toggleReaders()]], ["l", ["labels", () => toggleLayer("labels")]],
  ["m", ["next map", () => nextMap()]], ["i", ["inverted", () => byId("invert").click()]],
  ["+", ["zoom in", () => byId("zoom-in").click()]], ["-", ["zoom out", () => byId("zoom-out").click()]],
  ["0", ["whole image, window and level as at first", () => resetView()]],
  ["[", ["lower score", () => moveScore(-0.05)]], ["]", ["higher score", () => moveScore(0.05)]],
  ["?", ["this list", () => byId("help").showModal()]],
]);

const browser = dataOf("browser-data");
const state = {listed: [], number: -1, touched: false, initial: ""};
let picture = null;

const current = () => browser.cases[state.number];
const checked = name => document.querySelector(`#layers input[value="${CSS.escape(name)}"]`)?.checked ?? false;
const readersOf = () => [...new Set(browser.cases.flatMap(item => Object.keys(item.readers)))]
  .sort((a, b) => a.localeCompare(b, "en", {numeric: true}));

function toggleLayer(name, to = null) {
  const box = document.querySelector(`#layers input[value="${CSS.escape(name)}"]`);
  if (!box) return;
  box.checked = to ?? !box.checked;
  changed();
}

function toggleReaders() {
  const names = readersOf().map(layerOf), any = names.some(checked);
  names.forEach(name => toggleLayer(name, !any));
}

function nextMap() {
  const select = byId("map");
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  changed();
}

function moveScore(by) {
  const slider = byId("score");
  slider.value = String(Math.round((Number(slider.value) + by) * 1e6) / 1e6);
  refilter();
}

function setTone() {
  picture.setTone(Number(byId("level").value), Number(byId("window").value), byId("invert").checked);
}

function resetView() {
  byId("level").value = "128";
  byId("window").value = "255";
  byId("invert").checked = false;
  setTone();
  picture.fit();
}

function sourceOf(number) {
  const data = byId(`picture-${number}`)?.textContent;
  return data ? `data:image/jpeg;base64,${data.trim()}` : null;
}

function addLayers() {
  const layers = [[TRUTH, browser.cases.some(item => item.truth !== null), true],
    [PREDICTED, browser.cases.some(item => item.predicted !== null), true],
    ...readersOf().map(name => [layerOf(name), true, false, name]), ["labels", true, true]];
  byId("layers").append(...layers.filter(([, there]) => there).map(([value, , on, reader]) => element("label", {"data-reader": reader},
    element("input", {type: "checkbox", value, checked: on}), reader === undefined ? value : nameOf(reader))));
}

function showBoxes() {
  const item = current();
  const boxes = boxesOf(item, Number(byId("score").value));
  const shown = boxes.filter(box => checked(box.layer));
  picture.setBoxes(shown, checked("labels"), state.picked);
  byId("case-text").textContent = summaryOf(item, boxes, browser.classes);
  byId("box-rows").replaceChildren(...shown.map(rowOf));
}

function rowOf(box, number) {
  const swatch = element("span", {class: "swatch", "aria-hidden": "true"});
  swatch.style.background = browser.classes[box.label].color;
  const button = element("button", {type: "button", "aria-pressed": String(state.picked === number)}, swatch, browser.classes[box.label].name);
  button.addEventListener("click", () => {
    state.picked = state.picked === number ? null : number;
    showBoxes();
    byId("box-rows").rows[number].querySelector("button").focus();
  });
  return element("tr", {"data-picked": state.picked === number ? "" : null}, element("td", {}, button), element("td", {}, box.reader === undefined ? box.layer : nameOf(box.reader)),
    element("td", {class: "number"}, box.score === null ? "" : box.score.toFixed(3)), element("td", {}, OUTCOMES[box.outcome]));
}

function scrollTo(option) {  // within the list: the page itself stays where it is
  const list = byId("list"), top = option.offsetTop, bottom = top + option.offsetHeight;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
}

function showLayersOf(item) {
  document.querySelectorAll("#layers label[data-reader]").forEach(label => {
    label.hidden = !(label.dataset.reader in item.readers);
  });
}

const sentence = (start, text) => `${start}: ${text}${text.endsWith(".") ? "" : "."}`;

function showCase(number) {
  state.picked = null;
  document.querySelector('#list [aria-selected="true"]')?.setAttribute("aria-selected", "false");
  state.number = number;
  const item = current(), option = byId(`case-${number}`), source = sourceOf(number);
  option?.setAttribute("aria-selected", "true");
  if (option) scrollTo(option);
  byId("list").setAttribute("aria-activedescendant", option ? option.id : "");
  byId("case-title").textContent = item.id;
  const notes = [[item.leftOut, `Boxes of lower scores that are not in this page: ${item.leftOut}.`],
    [item.status && item.status !== "ok", sentence(isUnknown(item) ? "Not read" : item.status, item.reason)],
    [item.noPicture, sentence("No picture", item.noPicture)], [item.notice, sentence("Picture", item.notice)]].filter(([there]) => there).map(([, text]) => text).join(" ");
  byId("case-status").textContent = notes;
  byId("case-status").hidden = !notes;
  picture.show(item, source);
  showLayersOf(item);
  const before = byId("map").value, maps = Object.keys(item.maps);
  byId("map").replaceChildren(element("option", {value: ""}, "none"), ...maps.map(name => element("option", {value: name}, name)));
  byId("map").value = maps.includes(before) ? before : "";
  byId("map-label").hidden = !maps.length;
  showMap();
  showBoxes();
}

function showMap() {
  const name = byId("map").value;
  picture.setMap(name ? sourceOf(current().maps[name]) : null);
}

function changed() {
  if (state.number < 0) return;
  showMap();
  showBoxes();
  remember();
}

function showNoCase() {
  const {activeElement} = document;
  if (activeElement?.closest(".viewer, .boxes")) byId("list").focus();  // it is hidden now, and keys must go on
  state.number = -1;
  byId("list").setAttribute("aria-activedescendant", "");
  for (const id of ["case-title", "case-text"]) byId(id).textContent = "";
  byId("box-rows").replaceChildren();
}

function refilter(event) {
  const slider = byId("score");
  if (event?.target === slider) slider.value = Number(slider.value).toFixed(2);  // only who asks for more digits has them
  const filters = filtersNow();
  byId("score-text").textContent = scoreText(filters.score);
  byId("score-note").textContent = `Boxes with a score of ${scoreText(filters.score)} or more.`;
  state.listed = browser.cases.flatMap((item, number) => passes(item, boxesOf(item, filters.score), filters) ? [number] : []);
  byId("list").replaceChildren(...state.listed.map(number => optionFor(browser.cases[number], filters.score, number)));
  byId("count").textContent = `${state.listed.length} of ${plural(browser.cases.length, "image")}`;
  const keep = state.listed.includes(state.number), none = !state.listed.length;
  document.querySelectorAll(".viewer, .boxes").forEach(part => { part.hidden = none; });
  byId("no-case").hidden = !none;
  if (keep) {
    byId(`case-${state.number}`).setAttribute("aria-selected", "true");
    byId("list").setAttribute("aria-activedescendant", `case-${state.number}`);
    showBoxes();
  } else if (none) {
    showNoCase();
  } else {
    showCase(state.listed[0]);
  }
  if (event !== null) remember();
}

function step(by) {
  const place = state.listed.indexOf(state.number);
  const next = state.listed[clamp(place + by, 0, state.listed.length - 1)];
  if (next !== undefined && next !== state.number) { showCase(next); remember(); }
}

const layersNow = () => [...document.querySelectorAll("#layers input:checked")].map(box => box.value);

function remember() {
  const filters = filtersNow(), layers = layersNow();
  const entries = {case: current()?.id ?? "", score: filters.score, finding: browser.classes[filters.finding]?.name ?? "",
    outcome: filters.outcome, kind: filters.kind, search: filters.search, map: byId("map").value};
  const address = new URLSearchParams(Object.entries(entries).filter(([, value]) => value !== ""));
  if (JSON.stringify(layers) !== state.initial) (layers.length ? layers : [""]).forEach(name => address.append("layers", name));
  try {
    history.replaceState(null, "", `#${address}`);
  } catch { /* too many changes in a short time */ }
}

function restore() {
  const address = new URLSearchParams(location.hash.slice(1));
  if (!address.has("case") && !address.has("score")) return false;
  const number = browser.cases.findIndex(item => item.id === address.get("case"));
  const finding = browser.classes.findIndex(of => of.name === address.get("finding"));
  byId("finding").value = finding < 0 ? "" : String(finding);
  for (const name of ["outcome", "kind", "search"]) byId(name).value = address.get(name) ?? "";
  if (Number.isFinite(Number(address.get("score") ?? NaN))) byId("score").value = address.get("score");
  if (address.has("layers")) {
    const names = address.getAll("layers");
    document.querySelectorAll("#layers input").forEach(box => { box.checked = names.includes(box.value); });
  }
  refilter(null);
  if (number >= 0 && !state.listed.includes(number)) { byId("filters").reset(); byId("score").value = address.get("score") ?? browser.score; refilter(null); }
  if (number >= 0) showCase(number);
  byId("count").textContent += number < 0 && address.has("case") ? `; ${address.get("case")} is not among them` : "";
  if (address.has("map")) { byId("map").value = address.get("map"); showMap(); }
  byId("cases").scrollIntoView();
  return true;
}

function onKey(event) {
  const typing = event.target.matches("select, input[type=search]") || event.ctrlKey || event.altKey || event.metaKey;
  if (event.target === byId("list")) {
    const by = {ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e6, End: 1e6}[event.key];
    if (by) { event.preventDefault(); step(by); return; }
  }
  if (event.target === byId("picture")) {
    const [dx, dy] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key] ?? [0, 0];
    if (dx || dy) { event.preventDefault(); picture.pan(dx * picture.view.width / 10, dy * picture.view.height / 10); return; }
  }
  if (!typing && KEYS.has(event.key) && !byId("help").open) { event.preventDefault(); KEYS.get(event.key)[1](); }
}

function startBrowser() {
  picture = new Picture(byId("picture"), browser.classes);
  byId("finding").append(...browser.classes.map((of, label) => element("option", {value: label}, of.name)));
  byId("score").value = String(browser.score);
  byId("score").setAttribute("value", String(browser.score));
  byId("keys").append(...[...KEYS].map(([key, [text]]) => element("div", {}, element("dt", {}, element("kbd", {}, key)), element("dd", {}, text))));
  addLayers();
  state.initial = JSON.stringify(layersNow());
  byId("filters").addEventListener("input", refilter);
  byId("filters").addEventListener("submit", event => event.preventDefault());
  byId("filters").addEventListener("reset", () => setTimeout(refilter));
  byId("layers").addEventListener("change", changed);
  byId("map").addEventListener("change", changed);
  byId("list").addEventListener("click", event => {
    const option = event.target.closest("[role=option]");
    if (option) { showCase(Number(option.dataset.number)); remember(); }
  });
  for (const [id, act] of Object.entries({next: () => step(1), previous: () => step(-1), "zoom-in": () => picture.zoom(1.4),
    "zoom-out": () => picture.zoom(1 / 1.4), fit: resetView, "help-open": () => byId("help").showModal(), "help-close": () => byId("help").close()})) {
    byId(id).addEventListener("click", act);
  }
  for (const id of ["level", "window", "invert"]) byId(id).addEventListener("input", setTone);
  byId("picture").addEventListener("tone", ({detail}) => {
    for (const name of ["level", "window"]) {
      const slider = byId(name);
      slider.value = String(Number(slider.value) + (name === "level" ? detail.level : detail.width));
    }
    setTone();
  });
  byId("cases").addEventListener("keydown", onKey);
  addEventListener("hashchange", restore);
  if (!restore()) refilter(null);
}

if (browser?.cases.length) startBrowser();
