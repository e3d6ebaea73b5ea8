"use strict";
/* How the exercises are checked that ask for something to be done. `notes` keeps what the reader did
   on the way: one only sees afterwards that it was asked for. */

const notes = { runs: new Map(), snapshot: null, future: null, oneChoice: new Set() };

/** The mean weight that a head gives the token before. */
function previousScore(weights, T) {
  let sum = 0;
  for (let i = 1; i < T; i++) sum += weights[i * T + i - 1];
  return sum / (T - 1);
}

function checkPrevious() {
  const { result, causal } = state.run;
  if (result.T < 8) return wrong("Take a text of at least 8 tokens.");
  if (!causal) return wrong("Switch back to the causal mask first.");
  const scores = result.attention.map((layer) =>
    layer.map((weights) => previousScore(weights, result.T)),
  );
  const mine = scores[state.layer][state.head];
  const best = Math.max(...scores.flat());
  const says =
    `Layer ${state.layer}, head ${state.head} gives the token before ` +
    `${show(100 * mine, 0)}% of its weight on average`;
  if (mine >= 0.8 * best) {
    const strength =
      mine < 0.3
        ? " That is not much, but no head of this model does it clearly on this text."
        : "";
    return right(`${says}.${strength} Its square has a line just below the diagonal.`);
  }
  return wrong(`${says}: too little. Look for a line just below the diagonal.`);
}

/** Keep the loss of each text under both masks. */
function watchMasks(run) {
  if (run.headsOff.size > 0 || Number.isNaN(run.loss)) return;
  const text = run.tokens.join("");
  const losses = notes.runs.get(text) ?? {};
  losses[run.causal ? "causal" : "none"] = run.loss;
  notes.runs.set(text, losses);
  if (notes.runs.size > 50) notes.runs.delete(notes.runs.keys().next().value); // the oldest
}

function checkBidirectional([cells, loss]) {
  const losses = notes.runs.get(state.run.tokens.join("")) ?? {};
  if (losses.none === undefined) return wrong("Now switch to bidirectional, and look.");
  if (losses.causal === undefined)
    return wrong("Now switch back to causal once with this text, to compare.");
  if (cells !== 2) return wrong("Look again at the table: where were grey cells?");
  const change = losses.none - losses.causal;
  const truth = Math.abs(change) < 0.0005 ? 2 : change < 0 ? 0 : 1;
  const numbers = `${show(losses.causal)} with the causal mask, ${show(losses.none)} without`;
  if (loss !== truth) return wrong(`The cells are right. The loss of this text: ${numbers}.`);
  const why =
    truth === 1
      ? " The answers are in sight, but this model never learned to use them: they only " +
        "disturb what it learned."
      : "";
  return right(`Every token now sees the future. The loss is ${numbers}.${why}`);
}

/** Compare the chosen token's row before and after an edit behind it. */
function watchFuture(run) {
  const i = state.chosen;
  const usable = run.causal && run.headsOff.size === 0 && i >= 2 && i < run.tokens.length - 1;
  const row = usable ? weightRow(i).slice(0, i + 1) : null;
  const before = notes.snapshot;
  const place = `${state.layer}.${state.head}.${i}.${run.tokens.slice(0, i + 1).join("")}`;
  const after = run.tokens.slice(i + 1).join("");
  if (before && usable && before.place === place && before.after !== after) {
    notes.future = Math.max(...row.map((weight, j) => Math.abs(weight - before.row[j])));
  }
  notes.snapshot = usable ? { place, after, row } : null;
}

function checkFuture([answer]) {
  if (notes.future === null)
    return wrong(
      "Not tried yet: choose a token in the middle, then change the text after it and " +
        "nothing before.",
    );
  const measured = `The largest change of its weights was ${show(notes.future, 6)}.`;
  return answer === 2
    ? right(`${measured} What lies in the future can’t reach it.`)
    : wrong(measured);
}

async function checkNeeded() {
  if (state.run.headsOff.size !== 1) return wrong("Switch off exactly one head.");
  if (Number.isNaN(state.run.loss)) return wrong("Take a text of at least two tokens.");
  const [mine] = state.run.headsOff;
  const done = measured.of === measuredFor(state.run) ? measured : await measureHeads();
  if (done === null) return wrong("The text or a setting changed meanwhile. Check again.");
  const worst = Math.max(...done.losses.values());
  const change = done.losses.get(mine) - done.full;
  const says = `Without ${mine} the loss changes by ${showChange(change)}`;
  return done.losses.get(mine) >= worst - 1e-6
    ? right(`${says}, more than without any other head.`)
    : wrong(`${says}. Another head is needed more.`);
}

function right(says) {
  return { done: true, says };
}

function wrong(says) {
  return { done: false, says };
}
