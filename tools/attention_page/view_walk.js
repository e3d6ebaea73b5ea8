"use strict";
/* The walk through one attention: which step is shown, and of which key. The steps themselves are in
   view_steps.js. */

const WALK = [
  ["Query", queryStep],
  ["Key", keyStep],
  ["Dot product", dotStep],
  ["Scaling", scaleStep],
  ["Mask", maskStep],
  ["Softmax", softmaxStep],
  ["Weighted sum", sumStep],
];

/** Buttons for the steps, and what the reader asked for. */
function listenToWalk(change) {
  const steps = WALK.map(([name], step) => {
    const button = make("button", { type: "button" }, `${step + 1} ${name}`);
    button.addEventListener("click", () => change({ step }));
    return make("li", {}, button);
  });
  byId("walk-steps").append(...steps);
  byId("walk-back").addEventListener("click", () => change({ step: Math.max(state.step - 1, 0) }));
  byId("walk-on").addEventListener("click", () =>
    change({ step: Math.min(state.step + 1, WALK.length - 1) }),
  );
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
  byId("walk-panel").replaceChildren(
    make("h3", {}, `${state.step + 1} ${name}`),
    ...contents(numbers),
  );
}

/** The keys to choose from; the first choice follows the largest weight. */
function renderWalkKeys(n) {
  const names = state.run.tokens.map((token, key) =>
    make("option", { value: key }, `${key} ${showToken(token)}`),
  );
  const largest = largestFirst(n.weights, 1)[0];
  byId("walk-key").replaceChildren(
    make(
      "option",
      { value: "largest" },
      `the largest weight (${largest} ${showToken(state.run.tokens[largest])})`,
    ),
    ...names,
  );
  byId("walk-key").value = state.key !== null && state.key < n.T ? String(state.key) : "largest";
}
