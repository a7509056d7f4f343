"use strict";
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function typeOf(schema = {}) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  if (schema.additionalProperties) return `text to ${typeOf(schema.additionalProperties)}`;
  return schema.type || "";
}

function table(name, head, rows) {
  const line = (cells, name) => element("tr", {}, ...cells.map((cell) => element(name, {}, String(cell ?? ""))));
  return element("div", { class: "scroll whole", tabindex: "0", role: "region", "aria-label": name },
    element("table", {}, element("thead", {}, line(head, "th")), element("tbody", {}, ...rows.map((row) => line(row, "td")))));
}

function range(schema) {
  const least = schema.minimum === undefined ? "" : `from ${schema.minimum}`;
  return [least, schema.maximum === undefined ? "" : `to ${schema.maximum}`].filter(Boolean).join(" ");
}

function operation(path, method, of) {
  const section = element("section", { class: "card" }, element("h2", {}, element("code", {}, `${method.toUpperCase()} ${path}`)),
    element("p", {}, of.description || of.summary || ""));
  if (of.requestBody) section.append(element("p", {}, "A form (multipart/form-data) with the field ", element("code", {}, "file"), ", for example"),
    element("p", {}, element("code", {}, `curl -F file=@x.dicom '${location.origin}${path}?score=0.3'`)));
  if (of.parameters) section.append(table(`Options of ${path}`, ["Option", "Type", "Default", "Meaning"], of.parameters.map((option) =>
    [option.name, `${typeOf(option.schema)} ${range(option.schema)}`, option.schema.default, option.description || option.schema.description])));
  section.append(table(`Answers of ${path}`, ["Status", "Answer", "Meaning"], Object.entries(of.responses).map(([status, answer]) =>
    [status, typeOf(answer.content?.["application/json"]?.schema), answer.description])));
  return section;
}

async function start() {
  const described = await (await fetch("/openapi.json")).json();
  document.getElementById("description").textContent = described.info.description;
  const parts = Object.entries(described.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, of]) => operation(path, method, of)));
  for (const [name, schema] of Object.entries(described.components.schemas)) {
    if (!schema.properties || name.startsWith("Body_") || name.includes("ValidationError")) continue;
    parts.push(element("section", { class: "card" }, element("h2", {}, name), element("p", {}, schema.description || ""),
      table(`Keys of ${name}`, ["Key", "Type", "Meaning"], Object.entries(schema.properties).map(([key, of]) => [key, typeOf(of), of.description]))));
  }
  document.getElementById("paths").replaceChildren(...parts);
}
start();
