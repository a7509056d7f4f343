// The boxes of a case, and what each is from a score on: the matching is the metric's, made where the page was.

const TRUTH = "true boxes", PREDICTED = "predictions";
const OUTCOMES = {
  tp: "true positive", fp: "false positive", "normal-fp": "false positive on a normal image", missed: "missed",
  detected: "detected", "not-judged": "not judged: annotations incomplete", predicted: "predicted", "true": "true",
  reader: "a reader's box",
};

function outcomeOfPrediction(item, match) {
  if (item.truth === null) return "predicted";
  if (match === -2) return "not-judged";
  return match >= 0 ? "tp" : item.normal ? "normal-fp" : "fp";
}

function outcomeOfTruth(item, match, score) {
  if (item.predicted === null || match === -2) return "true";
  return match >= 0 && item.predicted[match][1] >= score ? "detected" : "missed";
}

function boxesOf(item, score) {
  const predicted = (item.predicted ?? []).filter(row => row[1] >= score).map(([label, own, x0, y0, x1, y1, match]) => (
    {layer: PREDICTED, label, score: own, corners: [x0, y0, x1, y1], outcome: outcomeOfPrediction(item, match)}));
  const truth = (item.truth ?? []).map(([label, x0, y0, x1, y1, match]) => (
    {layer: TRUTH, label, score: null, corners: [x0, y0, x1, y1], outcome: outcomeOfTruth(item, match, score)}));
  const readers = Object.entries(item.readers).flatMap(([name, rows]) => rows.map(([label, ...corners]) => (
    {layer: name, label, score: null, corners, outcome: "reader"})));
  return [...predicted, ...truth, ...readers];
}

const is = (box, ...outcomes) => outcomes.includes(box.outcome);

function countsOf(boxes) {
  const count = (...outcomes) => boxes.filter(box => is(box, ...outcomes)).length;
  return {tp: count("tp"), fp: count("fp", "normal-fp"), missed: count("missed"), predicted: count("predicted"), truth: count("true")};
}

function summaryOf(item, boxes, classes) {
  if (item.predicted === null) return "No prediction for this image.";
  const names = outcome => {
    const labels = boxes.filter(box => is(box, ...outcome)).map(box => classes[box.label].name);
    return [...new Set(labels)].map(name => {
      const times = labels.filter(label => label === name).length;
      return times > 1 ? `${name} (${times})` : name;
    }).join(", ");
  };
  const parts = [["True positives", ["tp"]], ["False positives", ["fp", "normal-fp"]], ["Missed", ["missed"]],
    ["Predicted", ["predicted"]], ["Not judged", ["not-judged"]]];
  const lines = parts.map(([title, outcome]) => [title, names(outcome)]).filter(([, text]) => text).map(([title, text]) => `${title}: ${text}.`);
  const rest = item.noFinding === null ? [] : [`Score of no finding: ${item.noFinding.toFixed(2)}.`];
  return [lines.join(" ") || "No box from this score on.", ...rest].join(" ");
}
