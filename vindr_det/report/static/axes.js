// Scales and axes of charts, in pixels of the chart.

function ticksBetween(low, high, about) {
  const step = 10 ** Math.floor(Math.log10((high - low) / about || 1));
  const size = [1, 2, 5, 10].map(factor => factor * step).find(value => (high - low) / value <= about) ?? step * 10;
  const ticks = [];
  for (let tick = Math.ceil(low / size - 1e-9) * size; tick <= high + size * 1e-9; tick += size) ticks.push(tick);
  return ticks;
}

function linearScale(low, high, from, to, about = 6) {
  const span = high - low || 1;
  const scale = value => from + (value - low) / span * (to - from);
  return Object.assign(scale, {ticks: ticksBetween(low, high, about), low, high});
}

function logScale(low, high, from, to) {
  const span = Math.log(high / low) || 1;
  const scale = value => from + Math.log(Math.max(value, low) / low) / span * (to - from);
  const ticks = [];
  for (let tick = low; tick <= high * 1.0001; tick *= 2) ticks.push(tick);
  return Object.assign(scale, {ticks, low, high});
}

function tickText(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e4) return value.toLocaleString("en", {notation: "compact"});
  return size < 1e-3 ? value.toExponential(0) : String(Number(value.toPrecision(3)));
}

function rangeOf(values, startAtZero) {
  const low = Math.min(...values), high = Math.max(...values);
  const margin = (high - low || Math.abs(high) || 1) * 0.05;
  return [startAtZero && low >= 0 ? 0 : low - margin, high + margin];
}

function drawAxes(frame, x, y, labels) {
  const parts = [shape("rect", {class: "ground", x: frame.left, y: frame.top, width: frame.width, height: frame.height})];
  for (const tick of x.ticks) {
    parts.push(shape("line", {class: "grid", x1: x(tick), x2: x(tick), y1: frame.top, y2: frame.bottom}));
    parts.push(shape("text", {class: "soft", x: x(tick), y: frame.bottom + 16, "text-anchor": "middle"}, tickText(tick)));
  }
  for (const tick of y.ticks) {
    parts.push(shape("line", {class: "grid", x1: frame.left, x2: frame.right, y1: y(tick), y2: y(tick)}));
    parts.push(shape("text", {class: "soft", x: frame.left - 6, y: y(tick) + 4, "text-anchor": "end"}, tickText(tick)));
  }
  parts.push(shape("line", {class: "axis", x1: frame.left, x2: frame.right, y1: frame.bottom, y2: frame.bottom}));
  parts.push(shape("text", {x: (frame.left + frame.right) / 2, y: frame.bottom + 34, "text-anchor": "middle"}, labels.x));
  const middle = (frame.top + frame.bottom) / 2;
  parts.push(shape("text", {x: 13, y: middle, "text-anchor": "middle", transform: `rotate(-90 13 ${middle})`}, labels.y));
  return parts;
}
