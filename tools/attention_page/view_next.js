"use strict";
/* The next token: what the model gives each one, and what the sliders make of it. */

const SHOWN_TOKENS = 12;

/** The scores of the token after position i. */
function logitsAfter(i) {
  const { logits, V } = state.run.result;
  return logits.subarray(i * V, (i + 1) * V);
}

/** A row of the picture: the model's probability as an outline, the reshaped one filled. */
function distributionRow(id, before, after) {
  const name = decode(state.model, [id])[0];
  const row = make("div", {
    role: "listitem",
    class: after === 0 ? "cut" : null,
    "data-token": id,
  });
  const bar = make("i", { "aria-hidden": "true" });
  bar.style.setProperty("--model", `${(100 * before).toFixed(2)}%`);
  bar.style.setProperty("--reshaped", `${(100 * after).toFixed(2)}%`);
  const verdict = after === 0 ? "cut" : show(after);
  row.append(
    make("b", { title: nameToken(name) }, showToken(name)),
    bar,
    make("span", {}, `${show(before)} → ${verdict}`),
  );
  return row;
}

/** The distribution after the chosen token. */
function renderNext() {
  const logits = logitsAfter(state.chosen);
  const before = reshape(logits, {});
  const after = reshape(logits, state.sampling);
  const order = largestFirst(before, before.length);
  const shown = order.slice(0, SHOWN_TOKENS);
  byId("distribution").replaceChildren(
    ...shown.map((id) => distributionRow(id, before[id], after[id])),
  );
  const rest = order.slice(SHOWN_TOKENS);
  const total = (probabilities) => rest.reduce((sum, id) => sum + probabilities[id], 0);
  const kept = after.filter((p) => p > 0).length;
  say(
    "distribution-rest",
    `The other ${rest.length} tokens together: ${show(total(before))} → ` +
      `${show(total(after))}. ${kept} of ${before.length} tokens can be drawn.`,
  );
  const next = state.run.tokens[state.chosen + 1];
  const then =
    next === undefined ? "" : `, which the text continues with ${withArticle("a", next)}`;
  say("next-after", `After ${tokenAt(state.chosen)}${then}:`);
}

/** What the sliders say now. */
function renderSliders() {
  const { temperature, topK, topP } = state.sampling;
  say("temperature-value", temperature === 0 ? "greedy" : temperature.toFixed(2));
  say("top-k-value", topK === 0 ? "all" : String(topK));
  say("top-p-value", topP.toFixed(2));
}

/** The sliders for a new model, where they change nothing; k goes up to all of its tokens. */
function buildSliders() {
  const size = String(state.model.config.vocab_size);
  byId("top-k").max = size;
  byId("temperature").value = "1";
  byId("top-k").value = size;
  byId("top-p").value = "1";
  state.sampling = { temperature: 1, topK: 0, topP: 1 };
}

/** Read the sliders; change(...) is called with what they say. */
function listenToSliders(change) {
  const read = () => {
    const k = Number(byId("top-k").value);
    change({
      sampling: {
        temperature: Number(byId("temperature").value),
        topK: k === Number(byId("top-k").max) ? 0 : k,
        topP: Number(byId("top-p").value),
      },
    });
  };
  for (const id of ["temperature", "top-k", "top-p"]) byId(id).addEventListener("input", read);
}
