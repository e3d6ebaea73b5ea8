"use strict";
/* The seven steps of the walk. Each function makes what the page shows of one step, from the
   numbers that walk.js collects; n.i is the query's token, n.j the key's. */

function paragraph(...parts) {
  return make("p", {}, ...parts);
}

function formula(...parts) {
  return make("p", { class: "formula" }, ...parts);
}

/** A table with a row per key; the key of the walk is marked. */
function keyTable(label, names, rows) {
  const table = make("table", {}, tableHead(names), make("tbody", {}, ...rows));
  return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, table);
}

function keyRow(n, key, cells) {
  const name = `${key} ${showToken(state.run.tokens[key])}`;
  return tableRow([name, ...cells], { class: key === n.j ? "chosen" : null });
}

function sumOf(values) {
  return values.reduce((sum, value) => sum + value, 0);
}

function queryStep(n) {
  return [
    paragraph(
      `The query says what the token looks for. ${vectorNote(n.i)} The learned matrix W_q of this ` +
        `head multiplies it: ${projection("q")}, with ${n.width} features` +
        `${placeNote(state.model.config)}.`,
    ),
    numberCells(n.query),
    paragraph("Learned features have no names. Orange is negative, blue is positive."),
  ];
}

function keyStep(n) {
  return [
    paragraph(
      `The key says what a token can be found by. ${vectorNote(n.j)} Its key is ` +
        `${projection("k")}${placeNote(state.model.config)}.`,
    ),
    numberCells(n.key),
    paragraph("And the query from before:"),
    numberCells(n.query),
  ];
}

function dotStep(n) {
  const inSum = (value) => (value < 0 ? `(${show(value, 2)})` : show(value, 2));
  const products = n.query.map((value, m) => value * n.key[m]);
  const terms = n.query.slice(0, 3).map((value, m) => `${inSum(value)} × ${inSum(n.key[m])}`);
  const more = n.width > 3 ? " + …" : "";
  return [
    paragraph(
      "The dot product is large where both point the same way: multiply feature by feature, " +
        "then add.",
    ),
    numberCells(products),
    formula(`q · k = ${terms.join(" + ")}${more} = `, make("b", {}, show(n.scores[n.j]))),
    paragraph(`So much does the key of ${tokenAt(n.j)} answer the query of ${tokenAt(n.i)}.`),
  ];
}

function scaleStep(n) {
  const score = show(n.scores[n.j]);
  const root = Math.sqrt(n.width);
  const divided = n.scores[n.j] / root;
  const lines = [
    paragraph(
      `A sum of ${n.width} products varies more the more there are. Dividing the scores by the ` +
        `square root of d_head = ${n.width} keeps their spread from growing with d_head: a ` +
        "larger spread sharpens the softmax. Training may make them larger where it pays.",
    ),
    formula(
      `${score} / √${n.width} = ${score} / ${show(root, 2)} = `,
      make("b", {}, show(divided)),
    ),
  ];
  if (state.model.config.position === "alibi") {
    const bias = show(n.scaled[n.j] - divided);
    lines.push(
      formula(`ALiBi adds ${bias} for the distance: `, make("b", {}, show(n.scaled[n.j]))),
    );
  }
  return lines;
}

function maskStep(n) {
  const rows = keysToShow(n, 6).map((key) => {
    const hidden = key >= n.visible;
    const score = make("td", { class: hidden ? "cut" : null }, show(n.scaled[key]));
    return keyRow(n, key, [score, hidden ? "−∞" : show(n.scaled[key])]);
  });
  const text = state.run.causal
    ? "The model learned to predict the next token, so it must not see it: for " +
      `${tokenAt(n.i)}, keys after ${n.i} are hidden. Their scores become −∞.`
    : "The mask is off: every key may be seen. This is not how this model was trained.";
  const table = keyTable("Scores before and after the mask", ["key", "score", "masked"], rows);
  return [paragraph(text), table];
}

function softmaxStep(n) {
  const keys = keysToShow(n, 6);
  const rows = keys.map((key) => {
    const score = key < n.visible ? show(n.scaled[key]) : "−∞";
    return keyRow(n, key, [score, show(n.exponentials[key], 4), show(n.weights[key], 4)]);
  });
  if (n.T > keys.length) {
    const rest = [n.exponentials, n.weights].map((values) => show(restOf(values, keys), 4));
    rows.push(tableRow([`${n.T - keys.length} others`, "", ...rest]));
  }
  rows.push(tableRow(["sum", "", show(n.sum, 4), show(sumOf(n.weights), 4)]));
  const names = ["key", "score s", `exp(s − ${show(n.largest)})`, "weight"];
  return [
    paragraph(
      "Exponentials make every score positive, and one division makes the shares sum to 1. The " +
        "largest score is subtracted first, which changes no weight and keeps exp from overflowing.",
    ),
    keyTable("The softmax of the row", names, rows),
  ];
}

function sumStep(n) {
  const keys = keysToShow(n, 4).filter((key) => n.weights[key] > 0);
  const products = n.values.map((value, key) => n.weights[key] * value[0]);
  const rows = keys.map((key) =>
    keyRow(n, key, [show(n.weights[key], 4), show(n.values[key][0]), show(products[key], 4)]),
  );
  if (n.visible > keys.length) {
    const [weight, product] = [n.weights, products].map((values) => show(restOf(values, keys), 4));
    rows.push(tableRow([`${n.visible - keys.length} others`, weight, "", product]));
  }
  rows.push(tableRow(["sum", "", "", show(sumOf(products), 4)]));
  const lines = [
    paragraph(
      `The value is what a token hands over: ${projection("v")}, of the same x as the key. ` +
        "The output is the average of all values with these weights. Its first feature, from the " +
        "values’ first features v₀:",
    ),
    keyTable("The weighted sum of the first feature", ["token", "weight", "v₀", "product"], rows),
    paragraph(
      "The whole output of this head, which W_o mixes with the other heads’ and adds to the token:",
    ),
    numberCells(n.output),
  ];
  if (n.off) lines.push(paragraph("This head is switched off, so zeros replace its output."));
  return lines;
}
