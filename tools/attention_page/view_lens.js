"use strict";
/* The logit lens: what each layer would predict for the token after the chosen one. */

const LENS_BEST = 5;

/** One line per layer: its best guesses, and what it gives the token that really comes next. */
function lensLines() {
  const { result, ids } = state.run;
  const truth = state.chosen + 1 < result.T ? ids[state.chosen + 1] : null;
  return result.lens.map((logits, layer) => {
    const probabilities = Array.from(probabilitiesAt(logits, state.chosen, result.V));
    return {
      layer: layer === 0 ? "embedding" : `layer ${layer - 1}`,
      best: largestFirst(probabilities, LENS_BEST).map((id) => ({
        id,
        probability: probabilities[id],
      })),
      truth: truth === null ? null : probabilities[truth],
    };
  });
}

/** The first line from which the best guess is the final one and stays it: 0 is the embedding. */
function lensSettled(lines) {
  const final = lines.at(-1).best[0].id;
  let settled = lines.length - 1;
  while (settled > 0 && lines[settled - 1].best[0].id === final) settled -= 1;
  return settled;
}

/** A guess as a shaded cell: the darker, the surer. */
function lensCell({ id, probability }) {
  const cell = make("td", { class: "word" });
  const box = make(
    "span",
    { class: "guess" },
    `${showToken(decode(state.model, [id])[0])} ${show(probability, 2)}`,
  );
  shade(box, weightColour(probability));
  cell.append(box);
  return cell;
}

/** The table of the chosen token. */
function renderLens() {
  const lines = lensLines();
  const { tokens } = state.run;
  const next = tokens[state.chosen + 1];
  say(
    "lens-truth",
    next === undefined
      ? `Nothing follows ${tokenAt(state.chosen)} yet.`
      : `After ${tokenAt(state.chosen)} the text continues with ${withArticle("a", next)}.`,
  );
  const head = tableHead([
    "after",
    ...Array.from({ length: LENS_BEST }, (_, rank) => `guess ${rank + 1}`),
    "the text’s own",
  ]);
  const rows = lines.map((line) =>
    tableRow([
      line.layer,
      ...line.best.map(lensCell),
      line.truth === null ? "–" : show(line.truth, 3),
    ]),
  );
  byId("lens-table").replaceChildren(head, make("tbody", {}, ...rows));
}
