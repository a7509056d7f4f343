// Which cases are listed: by finding, outcome, kind of image, score and id.

const FIELDS = ["finding", "outcome", "kind", "search"];

function filtersNow() {
  return {...Object.fromEntries(FIELDS.map(name => [name, byId(name).value.trim()])), score: Number(byId("score").value)};
}

function hasOutcome(boxes, wanted) {
  if (wanted === "right") return !boxes.some(box => is(box, "fp", "normal-fp", "missed"));
  if (wanted === "fp") return boxes.some(box => is(box, "fp", "normal-fp"));
  return !wanted ? boxes.length > 0 : boxes.some(box => is(box, wanted));
}

function isOfKind(item, kind) {
  if (kind === "flagged") return item.status !== "" && item.status !== "ok";
  return !kind || item.normal === (kind === "normal");
}

function passes(item, boxes, filters) {
  const ofFinding = filters.finding === "" ? boxes : boxes.filter(box => String(box.label) === filters.finding);
  const boxesFit = filters.finding === "" && !filters.outcome || hasOutcome(ofFinding, filters.outcome);
  return boxesFit && isOfKind(item, filters.kind) && item.id.toLowerCase().includes(filters.search.toLowerCase());
}

function optionFor(item, boxes, number) {
  const counts = countsOf(boxes);
  const parts = item.truth === null ? [plural(counts.predicted, "box")] : item.predicted === null ? [plural(counts.truth, "true box")]
    : [`TP ${counts.tp}`, `FP ${counts.fp}`, `FN ${counts.missed}`];
  if (item.normal !== null) parts.unshift(item.normal ? "normal" : "abnormal");
  if (item.status && item.status !== "ok") parts.push(item.status);
  return element("div", {role: "option", id: `case-${number}`, "data-number": number, "aria-selected": "false"},
    element("b", {}, item.id), element("span", {}, parts.join(" · ")));
}
