// The boxes of a case, and what each is from a score on: the matching is the metric's, made where the page was.

const TRUTH = "true boxes", PREDICTED = "predictions";
const OUTCOMES = {
  tp: "true positive", fp: "false positive", "normal-fp": "false positive on a normal image", missed: "missed",
  detected: "detected", "detected-unseen": "detected by a box that is not in this page", "not-judged": "not judged: annotations incomplete", predicted: "predicted", "true": "true",
  reader: "a reader's box",
};

function outcomeOfPrediction(item, match) {
  if (item.truth === null) return "predicted";
  if (match === -2) return "not-judged";
  return match >= 0 ? "tp" : item.normal ? "normal-fp" : "fp";
}

function outcomeOfTruth(item, match, own, score) {
  if (item.predicted === null || match === -2) return "true";
  if (match < 0 || own < score) return "missed";
  return match < item.predicted.length ? "detected" : "detected-unseen";
}

// Whether boxes of this score or more are left out of the page.
const isCut = (item, score) => item.leftOut > 0 && item.predicted.at(-1)[1] >= score;

// A reader may have any name, also that of another layer.
const layerOf = reader => `reader ${reader}`;
const nameOf = reader => [TRUTH, PREDICTED, "labels"].includes(reader) ? `${reader} (reader)` : reader;

function boxesOf(item, score) {
  const predicted = (item.predicted ?? []).filter(row => row[1] >= score).map(([label, own, x0, y0, x1, y1, match]) => (
    {layer: PREDICTED, label, score: own, corners: [x0, y0, x1, y1], outcome: outcomeOfPrediction(item, match)}));
  const truth = (item.truth ?? []).map(([label, x0, y0, x1, y1, match, own]) => (
    {layer: TRUTH, label, score: null, corners: [x0, y0, x1, y1], outcome: outcomeOfTruth(item, match, own, score)}));
  const readers = Object.entries(item.readers).flatMap(([reader, rows]) => rows.map(([label, ...corners]) => (
    {layer: layerOf(reader), reader, label, score: null, corners, outcome: "reader"})));
  return [...predicted, ...truth, ...readers];
}

const is = (box, ...outcomes) => outcomes.includes(box.outcome);

function countsOf(boxes) {
  const count = (...outcomes) => boxes.filter(box => is(box, ...outcomes)).length;
  return {tp: count("tp") + count("detected-unseen"), fp: count("fp", "normal-fp"), missed: count("missed"), predicted: count("predicted"), truth: count("true")};
}

const STATES = {
  "not read": "This image was not read: nothing is known of it.",
  "no prediction": "No prediction: the predictions' file has nothing of this image, and nothing is known of it.",
  "no box": "No box in the predictions' file, which does not tell whether this image was read; metrics take it as predicted without boxes.",
};
// Nobody looked at such an image: it has no outcome.
const isUnknown = item => item.state === "not read" || item.state === "no prediction";

function summaryOf(item, boxes, classes) {
  if (isUnknown(item)) return STATES[item.state];
  if (item.predicted === null) return "There are no predictions in this page.";
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
  const unseen = boxes.filter(box => is(box, "detected-unseen")).length;
  const rest = unseen ? [`Detected by boxes that are not in this page: ${unseen}.`] : [];
  if (item.noFinding !== null) rest.push(`Score of no finding: ${item.noFinding.toFixed(2)}.`);
  return [STATES[item.state] ?? "", lines.join(" ") || (item.state ? "" : "No box from this score on."), ...rest].filter(Boolean).join(" ");
}
