"use strict";
/* The walk on the page: seven steps, one at a time. Each function makes the contents of one step. */

const WALK = [
  ["Query", queryStep],
  ["Key", keyStep],
  ["Dot product", dotStep],
  ["Scaling", scaleStep],
  ["Mask", maskStep],
  ["Softmax", softmaxStep],
  ["Weighted sum", sumStep],
];

function formula(...parts) {
  return make("p", { class: "formula" }, ...parts);
}

/** A table that scrolls in its own frame. */
function framed(label, table) {
  return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, table);
}

function queryStep(n) {
  const note = projectionNote(state.model.config);
  return [
    make("p", {}, `The query says what the token looks for. The vector of ${tokenAt(n.i)} is multiplied by the learned matrix W_q of this head${note}: q = x W_q, with ${n.width} features.`),
    numberCells(n.query),
    make("p", {}, "Learned features have no names. Orange is negative, blue is positive."),
  ];
}

function keyStep(n) {
  const note = projectionNote(state.model.config);
  return [
    make("p", {}, `The key says what a token can be found by: k = x W_k${note}. This is the key of ${tokenAt(n.j)}.`),
    numberCells(n.key),
    make("p", {}, "And the query from before:"),
    numberCells(n.query),
  ];
}

function dotStep(n) {
  const products = n.query.map((value, m) => value * n.key[m]);
  const inSum = (value) => (value < 0 ? `(${show(value, 2)})` : show(value, 2));
  const terms = products.slice(0, 3).map((_, m) => `${inSum(n.query[m])} × ${inSum(n.key[m])}`);
  return [
    make("p", {}, "The dot product is large where both point the same way: multiply feature by feature, then add."),
    numberCells(products),
    formula(`q · k = ${terms.join(" + ")}${n.width > 3 ? " + …" : ""} = `, make("b", {}, show(n.scores[n.j]))),
    make("p", {}, `So much does the key of ${tokenAt(n.j)} answer the query of ${tokenAt(n.i)}.`),
  ];
}

function scaleStep(n) {
  const root = Math.sqrt(n.width);
  const divided = n.scores[n.j] / root;
  const bias = n.scaled[n.j] - divided; // ALiBi; 0 in other models
  const lines = [
    make("p", {}, `A sum of ${n.width} products varies more the more there are. The division by the square root of d_head = ${n.width} keeps scores near 1, so that the softmax stays soft.`),
    formula(`${show(n.scores[n.j])} / √${n.width} = ${show(n.scores[n.j])} / ${show(root, 2)} = `, make("b", {}, show(divided))),
  ];
  if (state.model.config.position === "alibi") {
    lines.push(formula(`ALiBi adds ${show(bias)} for the distance: `, make("b", {}, show(n.scaled[n.j]))));
  }
  return lines;
}

function maskStep(n) {
  const keys = keysToShow(n, 6);
  const rows = keys.map((key) => {
    const hidden = key >= n.visible;
    const after = hidden ? "−∞" : show(n.scaled[key]);
    return tableRow([`${key} ${showToken(state.run.tokens[key])}`, make("td", { class: hidden ? "cut" : null }, show(n.scaled[key])), after], { class: key === n.j ? "chosen" : null });
  });
  const text = state.run.causal
    ? `The model learned to predict the next token, so it must not see it: for ${tokenAt(n.i)}, keys after ${n.i} are hidden. Their scores become −∞.`
    : "The mask is off: every key may be seen. This is not how this model was trained.";
  const table = make("table", {}, tableHead(["key", "score", "masked"]), make("tbody", {}, ...rows));
  return [make("p", {}, text), framed("Scores before and after the mask", table)];
}

function softmaxStep(n) {
  const keys = keysToShow(n, 6);
  const rows = keys.map((key) => tableRow([
    `${key} ${showToken(state.run.tokens[key])}`,
    key < n.visible ? show(n.scaled[key]) : "−∞",
    show(n.exponentials[key], 4),
    show(n.weights[key], 4),
  ], { class: key === n.j ? "chosen" : null }));
  const others = n.T - keys.length;
  if (others > 0) rows.push(tableRow([`${others} others`, "", show(restOf(n.exponentials, keys), 4), show(restOf(n.weights, keys), 4)]));
  rows.push(tableRow(["sum", "", show(n.sum, 4), show(n.weights.reduce((a, b) => a + b, 0), 4)]));
  const table = make("table", {}, tableHead(["key", "score s", `exp(s − ${show(n.largest)})`, "weight"]), make("tbody", {}, ...rows));
  return [
    make("p", {}, `Exponentials make every score positive, and one division makes the shares sum to 1. The largest score is subtracted first, which changes no weight and keeps exp from overflowing.`),
    framed("The softmax of the row", table),
  ];
}

function sumStep(n) {
  const keys = keysToShow(n, 4).filter((key) => n.weights[key] > 0);
  const first = n.values.map((value, key) => n.weights[key] * value[0]);
  const rows = keys.map((key) => tableRow([
    `${key} ${showToken(state.run.tokens[key])}`, show(n.weights[key], 4), show(n.values[key][0]), show(first[key], 4),
  ], { class: key === n.j ? "chosen" : null }));
  const rest = n.visible - keys.length;
  if (rest > 0) rows.push(tableRow([`${rest} others`, show(restOf(n.weights, keys), 4), "", show(restOf(first, keys), 4)]));
  rows.push(tableRow(["sum", "", "", show(first.reduce((a, b) => a + b, 0), 4)]));
  const table = make("table", {}, tableHead(["token", "weight", "v₀", "product"]), make("tbody", {}, ...rows));
  const lines = [
    make("p", {}, "The value is what a token hands over: v = x W_v. The output is the average of all values with these weights. Its first feature, from the first features v₀ of the values:"),
    framed("The weighted sum of the first feature", table),
    make("p", {}, "The whole output of this head, which W_o mixes with the other heads’ and adds to the token:"),
    numberCells(n.output),
  ];
  if (n.off) lines.push(make("p", {}, "This head is switched off, so zeros replace its output."));
  return lines;
}

/** Buttons for the steps, and what the reader asked for. */
function listenToWalk(change) {
  const steps = WALK.map(([name], step) => {
    const button = make("button", { type: "button" }, `${step + 1} ${name}`);
    button.addEventListener("click", () => change({ step }));
    return make("li", {}, button);
  });
  byId("walk-steps").append(...steps);
  byId("walk-back").addEventListener("click", () => change({ step: Math.max(state.step - 1, 0) }));
  byId("walk-on").addEventListener("click", () => change({ step: Math.min(state.step + 1, WALK.length - 1) }));
  byId("walk-key").addEventListener("change", (event) => {
    change({ key: event.target.value === "largest" ? null : Number(event.target.value) });
  });
}

/** Show the current step. */
function renderWalk() {
  const numbers = walkNumbers();
  renderWalkKeys(numbers);
  const buttons = byId("walk-steps").querySelectorAll("button");
  buttons.forEach((button, step) => {
    if (step === state.step) button.setAttribute("aria-current", "step");
    else button.removeAttribute("aria-current");
  });
  byId("walk-back").disabled = state.step === 0;
  byId("walk-on").disabled = state.step === WALK.length - 1;
  const [name, contents] = WALK[state.step];
  byId("walk-panel").replaceChildren(make("h3", {}, `${state.step + 1} ${name}`), ...contents(numbers));
}

/** The keys to choose from; the first choice follows the largest weight. */
function renderWalkKeys(n) {
  const names = state.run.tokens.map((token, key) => make("option", { value: key }, `${key} ${showToken(token)}`));
  const largest = largestFirst(n.weights, 1)[0];
  byId("walk-key").replaceChildren(make("option", { value: "largest" }, `the largest weight (${largest} ${showToken(state.run.tokens[largest])})`), ...names);
  byId("walk-key").value = state.key !== null && state.key < n.T ? String(state.key) : "largest";
}
