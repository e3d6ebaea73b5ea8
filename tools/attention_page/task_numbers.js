"use strict";
/* More checks of exercises: those that ask for a number or a line, and those of the sliders. */

/** The two visible keys with the largest weights of the chosen token; null if it sees only one. */
function ratioPair() {
  const { T, parts } = shownHead();
  const weights = weightRow(state.chosen);
  const [a, b] = largestFirst(weights, 2);
  if (b === undefined || weights[b] === 0) return null;
  return { a, b, s: parts.scaled[state.chosen * T + a], t: parts.scaled[state.chosen * T + b] };
}

/** The text of the exercise for the chosen token. */
function ratioText() {
  const pair = state.run?.result ? ratioPair() : null;
  if (pair === null) return "Choose a token that may see at least two keys.";
  return (
    `In this head, ${tokenAt(state.chosen)} has the scaled scores ${show(pair.s)} for ` +
    `${tokenAt(pair.a)} and ${show(pair.t)} for ${tokenAt(pair.b)}. ` +
    "From these two alone: how many times as much weight does the first one get? (e is 2.718.)"
  );
}

function checkRatio(answers, number) {
  const pair = ratioPair();
  if (pair === null) return wrong("Choose a token that may see at least two keys.");
  if (!Number.isFinite(number)) return wrong("Give a number.");
  const { s, t } = pair;
  const near = (value, share = 0.05) => Math.abs(number - value) <= share * Math.abs(value);
  if (near(Math.exp(s - t)))
    return right(
      `exp(${show(s)} − ${show(t)}) = ${show(Math.exp(s - t), 2)}: only the difference of ` +
        "the scores counts.",
    );
  if (near(s - t, 0.02))
    return wrong("That is the difference of the scores. What does the softmax do with it?");
  if (near(s / t, 0.02))
    return wrong("That is the quotient of the scores. The softmax takes exponentials first.");
  return wrong("Not yet. Divide one exponential by the other; the sum below them cancels.");
}

/** The lines of the lens, to choose from. */
function settledChoices() {
  const { n_layers } = state.model.config;
  return ["the embedding", ...Array.from({ length: n_layers }, (_, layer) => `layer ${layer}`)];
}

function checkSettled([answer]) {
  const lines = lensLines();
  const truth = lensSettled(lines);
  const final = nameToken(decode(state.model, [lines.at(-1).best[0].id])[0]);
  if (answer === truth)
    return right(`From there on the best guess after ${tokenAt(state.chosen)} is ${final}.`);
  const earlier = lines[answer].best[0].id === lines.at(-1).best[0].id;
  return wrong(
    earlier
      ? "In that line it is the final one; look at the lines above and below."
      : `The final guess is ${final}; in that line it is another.`,
  );
}

/** Which slider alone leaves one token, if one does. */
function watchOneChoice() {
  const { temperature, topK, topP } = state.sampling;
  const moved = [temperature !== 1, topK !== 0, topP !== 1].filter(Boolean).length;
  const logits = logitsAfter(state.chosen);
  const left = reshape(logits, state.sampling).filter((p) => p > 0).length;
  const before = reshape(logits, {}).filter((p) => p > 0).length;
  if (moved !== 1 || left !== 1 || before === 1) return;
  notes.oneChoice.add(temperature !== 1 ? "temperature" : topK !== 0 ? "top-k" : "top-p");
}

function checkOneChoice() {
  const ways = [...notes.oneChoice];
  if (ways.length >= 2)
    return right(
      `Two ways: ${ways.join(" and ")}. Either way the most probable token is always taken: greedy decoding.`,
    );
  if (ways.length === 1)
    return wrong(`One way found: ${ways[0]}. Put it back, and find one with another slider.`);
  return wrong("More than one token can still be drawn, or more than one slider was moved.");
}

function checkAverage([answer]) {
  const { weights } = toyAttention(toyState.chosen, toyState.queries);
  if (Math.max(...weights) - Math.min(...weights) > 1e-6)
    return wrong("The weights of the word that you chose differ.");
  if (answer !== 1) return wrong("The word is right. Look at the scores in its table.");
  return right(
    "All scores are 0, all exponentials 1: a query that matches nothing gets the plain " +
      "average of the values.",
  );
}
