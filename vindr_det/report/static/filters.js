// Which cases are listed: by finding, outcome, kind of image, score and id.

const FIELDS = ["finding", "outcome", "kind", "search"];

function filtersNow() {
  return {...Object.fromEntries(FIELDS.map(name => [name, byId(name).value.trim()])), score: Number(byId("score").value)};
}

// Two digits, or as many as the score was given with.
const scoreText = score => String(score).length > 4 ? String(score) : score.toFixed(2);

function isRight(item, boxes, score) {
  const isJudged = item.predicted !== null && item.truth !== null;
  return isJudged && !isCut(item, score) && !boxes.some(box => is(box, "fp", "normal-fp", "missed"));
}

function hasOutcome(item, boxes, wanted, score) {
  if (wanted in STATES) return item.state === wanted;
  if (wanted && isUnknown(item)) return false;
  if (wanted === "right") return isRight(item, boxes, score);
  if (wanted === "fp") return boxes.some(box => is(box, "fp", "normal-fp"));
  if (wanted === "tp") return boxes.some(box => is(box, "tp", "detected-unseen"));
  return !wanted ? boxes.length > 0 : boxes.some(box => is(box, wanted));
}

function isOfKind(item, kind) {
  if (kind === "flagged") return item.status !== "" && item.status !== "ok" || isUnknown(item) || item.noPicture + item.notice !== "";
  return !kind || item.normal === (kind === "normal");
}

function passes(item, boxes, filters) {
  const ofFinding = filters.finding === "" ? boxes : boxes.filter(box => String(box.label) === filters.finding);
  const boxesFit = filters.finding === "" && !filters.outcome || hasOutcome(item, ofFinding, filters.outcome, filters.score);
  return boxesFit && isOfKind(item, filters.kind) && item.id.toLowerCase().includes(filters.search.toLowerCase());
}

function partsOf(item, boxes, score) {
  const counts = countsOf(boxes), truth = item.normal === null ? [] : [item.normal ? "normal" : "abnormal"];
  const more = isCut(item, score) ? "+" : "";
  if (isUnknown(item)) return [item.state, ...truth.map(kind => `annotated as ${kind}`)];
  if (item.state === "no box") return [...truth, ...(counts.missed ? [`FN ${counts.missed}`] : []), "no box in the predictions' file"];
  if (item.truth === null) return [plural(counts.predicted, "box")];
  if (item.predicted === null) return [...truth, plural(counts.truth, "true box")];
  return [...truth, `TP ${counts.tp}`, `FP ${counts.fp}${more}`, `FN ${counts.missed}`];
}

function optionFor(item, score, number) {
  const parts = partsOf(item, boxesOf(item, score), score);
  if (item.status === "flagged" || item.notice) parts.push("flagged");
  if (item.noPicture) parts.push("no picture");
  return element("div", {role: "option", id: `case-${number}`, "data-number": number, "aria-selected": "false"},
    element("b", {}, item.id), element("span", {}, parts.join(" · ")));
}
