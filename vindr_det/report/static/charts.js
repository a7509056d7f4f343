// Charts as SVG, drawn for the width that there is, with a table of their values.

function drawLines(chart, width, hidden) {
  const height = clamp(width * 0.68, 240, 430);
  const frame = {left: 52, top: 8, right: width - 14, bottom: height - 42};
  Object.assign(frame, {width: frame.right - frame.left, height: frame.bottom - frame.top});
  const points = chart.series.flatMap(line => line.points);
  const xs = points.map(point => point[0]), ys = points.map(point => point[1]);
  const [xLow, xHigh] = chart.xRange ?? rangeOf(xs, true), [yLow, yHigh] = chart.yRange ?? rangeOf(ys, true);
  const about = Math.max(3, Math.round(frame.width / 80));
  const x = (chart.logX ? logScale : linearScale)(xLow, xHigh, frame.left, frame.right, about);
  const y = linearScale(yLow, yHigh, frame.bottom, frame.top);
  const parts = drawAxes(frame, x, y, chart);
  if (chart.diagonal) {
    parts.push(shape("line", {class: "axis", x1: x(xLow), y1: y(yLow), x2: x(xHigh), y2: y(yHigh), "stroke-dasharray": "3 4"}));
  }
  for (const line of chart.series.filter(line => !hidden.has(line.name))) {
    const path = line.points.map(([px, py]) => `${x(px).toFixed(1)},${y(py).toFixed(1)}`).join(" ");
    parts.push(shape("polyline", {points: path, fill: "none", stroke: line.color, "stroke-width": line.width,
      "stroke-dasharray": line.dashed ? "5 4" : null, "stroke-linejoin": "round"}, shape("title", {}, line.name)));
    if (line.marked) {
      parts.push(...line.points.map(([px, py]) => shape("circle", {cx: x(px), cy: y(py), r: 2.6, fill: line.color})));
    }
  }
  return shape("svg", {viewBox: `0 0 ${width} ${height}`, role: "img"}, ...parts);
}

function drawBars(chart, width) {
  const rows = chart.bars.length, height = rows * 24 + 48;
  const longest = Math.max(...chart.bars.map(bar => bar.name.length));
  const frame = {left: clamp(longest * 7 + 10, 60, width * 0.42), top: 6, right: width - 66, bottom: height - 42};
  Object.assign(frame, {width: frame.right - frame.left, height: frame.bottom - frame.top});
  const ends = chart.bars.flatMap(bar => [bar.value ?? 0, ...(bar.interval ?? [])]);
  const low = Math.min(0, ...ends), high = Math.max(0, ...ends) || 1;
  const x = linearScale(low, high, frame.left, frame.right, Math.max(2, Math.round(frame.width / 80)));
  const y = Object.assign(() => 0, {ticks: []});
  const parts = drawAxes(frame, x, y, {x: chart.label, y: ""});
  const fits = Math.floor((frame.left - 12) / 6.6);
  chart.bars.forEach((bar, row) => {
    const top = frame.top + row * 24 + 4, name = bar.name.length > fits ? `${bar.name.slice(0, fits - 1)}…` : bar.name;
    parts.push(shape("text", {x: frame.left - 6, y: top + 12, "text-anchor": "end"}, name, shape("title", {}, bar.name)));
    if (bar.value === null) return;
    const [from, to] = [x(Math.min(0, bar.value)), x(Math.max(0, bar.value))];
    parts.push(shape("rect", {x: from, y: top, width: Math.max(to - from, 0.5), height: 16, fill: bar.color ?? "#6b8fb5",
      stroke: "#555", "stroke-width": 0.6}, shape("title", {}, `${bar.name}: ${bar.value}`)));
    let end = to;
    if (bar.interval) {
      const [a, b] = bar.interval.map(x);
      parts.push(shape("path", {d: `M${a} ${top + 8}H${b}M${a} ${top + 4}v8M${b} ${top + 4}v8`, stroke: "var(--ink)", "stroke-width": 1.3, fill: "none"}));
      end = Math.max(end, b);
    }
    parts.push(shape("text", {x: end + 5, y: top + 12}, tickText(Number(bar.value.toPrecision(3)))));
  });
  return shape("svg", {viewBox: `0 0 ${width} ${height}`, role: "img"}, ...parts);
}

function sampled(points, count = 11) {
  if (points.length <= count) return points;
  return Array.from({length: count}, (_, place) => points[Math.round(place * (points.length - 1) / (count - 1))]);
}

function valuesTable(chart) {
  const body = chart.series.flatMap(line => sampled(line.points).map(([x, y]) => element("tr", {},
    element("th", {scope: "row"}, line.name), element("td", {class: "number"}, String(x)), element("td", {class: "number"}, String(y)))));
  const head = ["line", chart.x, chart.y].map(text => element("th", {scope: "col"}, text));
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
}

function valuesOf(chart) {
  const scroll = element("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": `Values of ${chart.title}`});
  const details = element("details", {}, element("summary", {}, "Values as a table"), scroll);
  details.addEventListener("toggle", () => { if (!scroll.firstChild) scroll.append(valuesTable(chart)); });
  return details;
}

function legendOf(chart, hidden, redraw) {
  return element("ul", {class: "legend", "aria-label": "Lines"}, ...chart.series.map(line => {
    const mark = element("i", {"aria-hidden": "true", class: line.dashed ? "dashed" : null});
    mark.style.background = line.color;
    const button = element("button", {type: "button", "aria-pressed": "true"}, mark, line.name);
    button.addEventListener("click", () => {
      if (!hidden.delete(line.name)) hidden.add(line.name);
      button.setAttribute("aria-pressed", String(!hidden.has(line.name)));
      redraw();
    });
    return element("li", {}, button);
  }));
}

function showChart(figure, chart) {
  const hidden = new Set(), lines = chart.kind === "lines";
  let drawn = null, width = 0;
  function redraw() {
    const next = (lines ? drawLines : drawBars)(chart, width, hidden);
    next.setAttribute("aria-label", `${chart.title}. ${chart.description}`);
    if (drawn) drawn.replaceWith(next); else figure.querySelector(".note").after(next);
    drawn = next;
  }
  figure.classList.toggle("film", Boolean(chart.film));
  if (lines && chart.series.length > 1) figure.append(legendOf(chart, hidden, redraw));
  if (lines) figure.append(valuesOf(chart));
  new ResizeObserver(([entry]) => {
    const available = Math.round(entry.contentRect.width);
    if (available && available !== width) { width = available; redraw(); }
  }).observe(figure);
}

const charts = dataOf("charts-data");
document.querySelectorAll("figure.chart").forEach(figure =>
  showChart(figure, charts[figure.dataset.section][figure.dataset.block]));
