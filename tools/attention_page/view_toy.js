"use strict";
/* The five words on the page: choose one, see its arcs and its numbers, change what words look
   for. */

const toyState = { chosen: 3, queries: TOY_W_Q.map((row) => [...row]) };

/** Draw everything for the chosen word. */
function renderToy() {
  const { chosen, queries } = toyState;
  const numbers = toyAttention(chosen, queries);
  fillTokenRow(byId("toy-words"), TOY_WORDS, chosen);
  shadeTokenRow(byId("toy-words"), numbers.weights, () => false);
  drawArcs(byId("toy-arcs"), {
    tokens: TOY_WORDS,
    weights: numbers.weights,
    chosen,
    cell: toyCell(),
    numbers: true,
    label: toySentence(numbers),
  });
  say("toy-says", toySentence(numbers));
  byId("toy-numbers").replaceChildren(...toyNumbers(numbers));
}

/** As wide as there is room for, so that it can be read from the back of a room. */
function toyCell() {
  return Math.min(
    120,
    Math.max(Math.floor((byId("words").clientWidth - 6) / TOY_WORDS.length), 56),
  );
}

/** What the chosen word looks for, where it looks, and what it gets. */
function toySentence({ query, scores, weights, output }) {
  const word = TOY_WORDS[toyState.chosen];
  const wanted = TOY_FEATURES.map((name, m) => `${name} ${show(query[m], 0)}`).filter(
    (_, m) => query[m] !== 0,
  );
  const best = largestFirst(weights, 2)
    .filter((j) => scores[j] > 0) // a weight is never 0, but only these match
    .map((j) => `“${TOY_WORDS[j]}” (${show(weights[j], 2)})`);
  const finds = best.length > 0 ? `finds ${best.join(" and ")}` : "no word matches";
  const looks =
    wanted.length === 0
      ? "looks for nothing, so its weights are all equal"
      : `looks for ${wanted.join(", ")}, and ${finds}`;
  return (
    `“${word}” ${looks}. It leaves with ${show(output[0], 2)} of looks and ` +
    `${show(output[1], 2)} of motion.`
  );
}

/** Query times key, scaling, softmax and values, word by word. */
function toyNumbers({ scores, scaled, weights, values, output }) {
  const rows = TOY_WORDS.map((word, j) =>
    tableRow(
      [
        word,
        show(scores[j], 0),
        show(scaled[j], 1),
        show(weights[j], 3),
        ...values[j].map((value) => show(value, 0)),
      ],
      { class: j === toyState.chosen ? "chosen" : null },
    ),
  );
  const sum = tableRow(["sum", "", "", show(1, 3), ...output.map((value) => show(value, 2))]);
  return [
    tableHead(["key", "q · k", "/ √4", "weight", ...TOY_VALUES]),
    make("tbody", {}, ...rows, sum),
  ];
}

/** The features of the words, and the query matrix as fields that can be changed. */
function buildToyTables() {
  const words = TOY_WORDS.map((word, i) => tableRow([word, ...TOY_X[i]]));
  byId("toy-features").replaceChildren(
    make("caption", {}, "x: what each word is"),
    tableHead(["word", ...TOY_FEATURES]),
    make("tbody", {}, ...words),
  );
  const rows = TOY_FEATURES.map((name, row) =>
    tableRow([
      `a ${name}`.replace("a action", "an action"),
      ...TOY_FEATURES.map((_, column) => toyField(row, column)),
    ]),
  );
  byId("toy-queries").replaceChildren(
    make("caption", {}, "W_q: what each kind looks for"),
    tableHead(["looks for", ...TOY_FEATURES]),
    make("tbody", {}, ...rows),
  );
}

/** One number of the query matrix. */
function toyField(row, column) {
  const field = make("input", {
    type: "number",
    min: -20,
    max: 20,
    step: 1,
    value: toyState.queries[row][column],
    "aria-label": `${TOY_FEATURES[row]} looks for ${TOY_FEATURES[column]}`,
  });
  field.addEventListener("input", () => {
    const value = Number(field.value);
    toyState.queries[row][column] = Number.isFinite(value) ? Math.min(Math.max(value, -20), 20) : 0;
    renderToy();
  });
  return make("td", {}, field);
}

/** Start the five words. */
function startToy() {
  tokenRow(byId("toy-words"), (i) => {
    toyState.chosen = i;
    renderToy();
  });
  byId("toy-reset").addEventListener("click", () => {
    toyState.queries = TOY_W_Q.map((row) => [...row]);
    buildToyTables();
    renderToy();
  });
  buildToyTables();
  renderToy();
}
