// The picture of a case: pixels, boxes as layers, zoom, pan, window and level.

const LABEL_PIXELS = 12;

function textOn(color) {  // black or white, whichever is easier to read
  const [red, green, blue] = [1, 3, 5].map(at => parseInt(color.slice(at, at + 2), 16) / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}

class Picture {
  constructor(svg, classes) {
    this.svg = svg;
    this.classes = classes;
    this.pointers = new Map();
    this.tone = shape("feComponentTransfer", {});
    this.heat = shape("g", {});
    this.image = shape("image", {preserveAspectRatio: "none", filter: "url(#tone)"});
    this.layer = shape("g", {});
    this.item = {width: 1, height: 1};
    this.view = {x: 0, y: 0, width: 1, height: 1};
    this.boxes = [];
    svg.append(shape("defs", {}, shape("filter", {id: "tone", "color-interpolation-filters": "sRGB", x: 0, y: 0, width: 1, height: 1}, this.tone),
      heatFilter()), this.image, this.heat, this.layer);
    this.setTone(128, 255, false);
    this.listen();
    new ResizeObserver(() => this.drawBoxes()).observe(svg);
  }

  show(item, source) {
    Object.assign(this, {item, boxes: [], picked: null});
    filled(this.image, {width: item.width, height: item.height}, []);
    if (source) this.image.setAttribute("href", source); else this.image.removeAttribute("href");
    this.heat.replaceChildren();
    this.fit();
  }

  setBoxes(boxes, labeled, picked = null) {
    Object.assign(this, {boxes, labeled, picked});
    this.drawBoxes();
  }

  setMap(source) {
    const {width, height} = this.item;
    this.heat.replaceChildren(...(source ? [shape("image", {href: source, width, height, preserveAspectRatio: "none", filter: "url(#heat)"})] : []));
  }

  setTone(level, width, inverted) {
    const slope = 255 / width, intercept = 0.5 - level / width, sign = inverted ? -1 : 1;
    const values = {type: "linear", slope: sign * slope, intercept: inverted ? 1 - intercept : intercept};
    this.tone.replaceChildren(...["R", "G", "B"].map(name => shape(`feFunc${name}`, values)));
  }

  fit() {
    this.view = {x: 0, y: 0, width: this.item.width, height: this.item.height};
    this.apply();
  }

  zoom(factor, at = null) {
    const {view, item} = this;
    const center = at ?? {x: view.x + view.width / 2, y: view.y + view.height / 2};
    const scale = clamp(view.width / factor, item.width / 20, item.width) / view.width;
    this.view = {x: center.x - (center.x - view.x) * scale, y: center.y - (center.y - view.y) * scale,
      width: view.width * scale, height: view.height * scale};
    this.apply();
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.apply();
  }

  apply() {
    const {view, item} = this;
    view.x = clamp(view.x, 0, item.width - view.width);
    view.y = clamp(view.y, 0, item.height - view.height);
    this.svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
    this.svg.classList.toggle("zoomed", view.width < item.width * 0.999);
    this.drawBoxes();
  }

  get unit() {  // of the image per pixel of the screen
    const {clientWidth, clientHeight} = this.svg;
    return Math.max(this.view.width / (clientWidth || 1), this.view.height / (clientHeight || 1));
  }

  drawBoxes() {
    const placed = [];
    const draw = (box, number) => {
      const [x0, y0, x1, y1] = box.corners, place = {x: x0, y: y0, width: x1 - x0, height: y1 - y0};
      const line = shape("rect", {...place, class: `box line-${box.outcome}`, stroke: this.classes[box.label].color});
      const picked = number === this.picked ? "picked" : null;
      return shape("g", {class: picked, "data-box": number}, shape("rect", {...place, class: "casing"}), line);
    };
    const labeled = this.labeled ? this.boxes.filter(box => box.outcome !== "detected") : [];
    this.layer.replaceChildren(...this.boxes.map(draw), ...labeled.map(box => this.label(box, placed)));
  }

  label(box, placed) {
    const size = LABEL_PIXELS * this.unit, score = box.score === null ? "" : ` ${box.score.toFixed(2)}`;
    const tag = {fp: "FP ", "normal-fp": "FP ", missed: "FN ", reader: `${box.reader} `}[box.outcome] ?? "";
    const text = tag + this.classes[box.label].name + score, width = text.length * size * 0.56 + size * 0.4;
    const [x0, y0, , y1] = box.corners, left = clamp(x0, 0, Math.max(0, this.item.width - width));
    const tops = [y0 - size * 0.3, y0 + size * 0.95, y1 + size * 0.95, y1 - size * 0.3];
    for (let step = 1; step < 12; step++) tops.push(y0 + size * (0.95 + step * 1.2));
    const free = tops.find(y => y > size * 0.8 && y < this.item.height && !placed.some(other =>
      left < other.right && left + width > other.left && Math.abs(y - other.y) < size * 1.15)) ?? y0 + size;
    placed.push({left, right: left + width, y: free});
    const color = this.classes[box.label].color, plain = tag === "";
    const strip = shape("rect", {class: "strip", x: left, y: free - size * 0.88, width, height: size * 1.12, rx: size * 0.15});
    const node = shape("text", {x: left + size * 0.2, y: free, "font-size": size}, text);
    strip.style.fill = plain ? color : "#101010";
    strip.style.stroke = color;
    node.style.fill = plain ? textOn(color) : "#fff";
    return shape("g", {}, strip, node);
  }

  pointAt(event) {
    const matrix = this.svg.getScreenCTM();
    return matrix ? new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse()) : null;
  }

  listen() {
    const {svg} = this;
    svg.addEventListener("wheel", event => {
      if (!event.ctrlKey && document.activeElement !== svg) return;  // the page scrolls
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, this.pointAt(event));
    }, {passive: false});
    svg.addEventListener("pointerdown", event => {
      this.pointers.set(event.pointerId, event);
      if (svg.classList.contains("zoomed") || event.shiftKey) svg.setPointerCapture(event.pointerId);
    });
    svg.addEventListener("pointermove", event => this.moved(event));
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
      svg.addEventListener(name, event => this.pointers.delete(event.pointerId));
    }
    svg.addEventListener("dblclick", event => this.zoom(2, this.pointAt(event)));
  }

  moved(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const distance = () => {
      const [a, b] = [...this.pointers.values()];
      return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    };
    const was = this.pointers.size === 2 ? distance() : 0;
    this.pointers.set(event.pointerId, event);
    const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
    if (was) this.zoom(distance() / was, this.pointAt(event));
    else if (event.shiftKey) this.svg.dispatchEvent(new CustomEvent("tone", {detail: {width: dx * 2, level: dy}}));
    else this.pan(-dx * this.unit, -dy * this.unit);
  }
}

function heatFilter() {  // gray 0 to 1 becomes transparent black, purple, orange, yellow
  const tables = {R: "0 .34 .73 .98 .99", G: "0 .06 .21 .55 1", B: ".02 .43 .33 .04 .64"};
  return shape("filter", {id: "heat", "color-interpolation-filters": "sRGB", x: 0, y: 0, width: 1, height: 1},
    shape("feColorMatrix", {values: "1 0 0 0 0  1 0 0 0 0  1 0 0 0 0  .65 0 0 0 0"}),
    shape("feComponentTransfer", {}, ...Object.entries(tables).map(([name, tableValues]) => shape(`feFunc${name}`, {type: "table", tableValues}))));
}
