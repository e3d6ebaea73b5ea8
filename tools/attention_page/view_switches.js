"use strict";
/* A switch per head, and what the text's loss becomes without it. */

const measured = { of: null, losses: new Map() }; // of: the text and mask they belong to

/** What measured losses belong to. */
function measuredFor(run) {
  return `${run.causal}|${run.tokens.join("")}`;
}

/** Losses of another text or another model say nothing here. */
function forgetMeasured() {
  Object.assign(measured, { of: null, losses: new Map() });
  say("measure-says", "");
}

/** The switches, when a model arrives; toggle(name, on) is called for each change. */
function buildSwitches(toggle) {
  forgetMeasured();
  buildHeadRows(byId("switch-grid"), (layer, head) => {
    const name = `${layer}.${head}`;
    const box = make("input", {
      type: "checkbox",
      role: "switch",
      "data-head": name,
      "aria-label": `Layer ${layer}, head ${head}`,
    });
    box.addEventListener("change", () => toggle(name, box.checked));
    return make("label", {}, box, name, make("small", { "data-loss": name }));
  });
}

/** The change of a loss, with its sign. */
function showChange(change) {
  const text = show(change, 3);
  return change >= 0 ? `+${text}` : text;
}

/** Switches, loss and measured changes. */
function renderSwitches() {
  const run = state.run;
  for (const box of byId("switch-grid").querySelectorAll("input"))
    box.checked = !state.headsOff.has(box.dataset.head);
  say("loss-says", lossSentence(run));
  if (measured.of !== null && measured.of !== measuredFor(run)) forgetMeasured();
  for (const small of byId("switch-grid").querySelectorAll("small")) {
    const loss = measured.losses.get(small.dataset.loss);
    small.textContent = loss === undefined ? "" : showChange(loss - measured.full);
  }
}

/** The loss of the text now, and with all heads. */
function lossSentence(run) {
  if (!run.result || Number.isNaN(run.loss))
    return "A loss needs two tokens: the second one is predicted.";
  const unit = state.model.tokenizer.kind === "char" ? "nats per character" : "nats per token";
  const full = `With all heads, the loss of this text is ${show(run.fullLoss)} ${unit}`;
  if (run.headsOff.size === 0) return `${full}. Switch one off.`;
  const names = [...run.headsOff].sort().join(", ");
  return `${full}; without ${names} it is ${show(run.loss)} (${showChange(run.loss - run.fullLoss)}).`;
}

/** Switch each head off alone. Stops where the reader changes something meanwhile. */
async function measureHeads() {
  const run = state.run;
  const { n_layers, n_heads } = state.model.config;
  const losses = new Map();
  const options = { causal: run.causal };
  const lossWithout = async (headsOff) => {
    const result = await computeForward(state.model, run.ids, { ...options, headsOff });
    return result === null || run !== state.run ? null : textLoss(result, run.ids);
  };
  const full = await lossWithout([]);
  if (full === null) return null;
  for (let layer = 0; layer < n_layers; layer++) {
    for (let head = 0; head < n_heads; head++) {
      const loss = await lossWithout([[layer, head]]);
      if (loss === null) return null;
      losses.set(`${layer}.${head}`, loss);
      say("measure-says", `${losses.size} of ${n_layers * n_heads} heads measured`);
      await new Promise((resolve) => setTimeout(resolve)); // let the page answer in between
    }
  }
  Object.assign(measured, { of: measuredFor(run), losses, full });
  return measured;
}

/** The button "Measure each head alone". */
async function onMeasure() {
  if (!state.run?.result || Number.isNaN(state.run.loss)) return;
  const done = await measureHeads();
  if (done === null) {
    say("measure-says", "Stopped, because the text or a setting changed.");
    return;
  }
  say("measure-says", "Next to each head: the change of the loss if it alone is off.");
  renderSwitches();
}
