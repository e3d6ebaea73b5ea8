"use strict";
/* The tokens as buttons: one of them is chosen, the others are shaded by the weight it gives them.
   The row is a radio group: one Tab stop, arrows move the choice. */

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

/** Make a container a row of tokens; choose(i) is called for a click or a key. */
function tokenRow(container, choose) {
  container.setAttribute("role", "radiogroup");
  container.addEventListener("click", (event) => {
    const button = event.target.closest("[role=radio]");
    if (button) choose(Number(button.dataset.index));
  });
  container.addEventListener("keydown", (event) => {
    const button = event.target.closest("[role=radio]");
    const last = container.children.length - 1;
    if (!button || event.ctrlKey || event.altKey || event.metaKey) return;
    const goal = keyGoal(event.key, Number(button.dataset.index), last);
    if (goal === null) return;
    event.preventDefault();
    choose(goal);
    container.children[goal].focus();
  });
}

/** Where a key leads from position i; null for keys that do not move. */
function keyGoal(key, i, last) {
  if (key === "Home") return 0;
  if (key === "End") return last;
  if (!(key in STEPS)) return null;
  return Math.min(Math.max(i + STEPS[key], 0), last);
}

/** Show these tokens. Buttons are reused, so the focus stays where it is. */
function fillTokenRow(container, tokens, chosen) {
  while (container.children.length > tokens.length) container.lastChild.remove();
  while (container.children.length < tokens.length) {
    const index = container.children.length;
    container.append(
      make(
        "button",
        { type: "button", role: "radio", "data-index": index },
        make("span"),
        make("small"),
      ),
    );
  }
  tokens.forEach((token, i) => {
    const button = container.children[i];
    if (button.dataset.token !== token) {
      button.dataset.token = token;
      button.firstChild.textContent = showToken(token);
    }
    button.setAttribute("aria-label", `${nameToken(token)}, position ${i}`);
    button.setAttribute("aria-checked", String(i === chosen));
    button.tabIndex = i === chosen ? 0 : -1;
  });
}

/** Shade the tokens by the weights that the chosen one gives them. */
function shadeTokenRow(container, weights, isMasked) {
  weights.forEach((weight, i) => {
    const button = container.children[i];
    shade(button, isMasked(i) ? MASKED[theme()] : weightColour(weight));
    button.lastChild.textContent = show(weight, 2);
  });
}

/** The model's tokens. */
function renderTokens() {
  const container = byId("tokens");
  const { tokens, causal, result } = state.run;
  fillTokenRow(container, tokens, state.chosen);
  if (result) shadeTokenRow(container, weightRow(state.chosen), (j) => causal && j > state.chosen);
  container.classList.toggle("numbers", byId("numbers").checked);
}

/** What the shades mean, with the same colours. */
function renderLegend() {
  const sample = (text, colour) => {
    const swatch = make("i");
    swatch.style.background = `rgb(${colour.join(" ")})`;
    return make("span", {}, swatch, text);
  };
  const weights = [0, 0.05, 0.25, 0.5, 1].map((weight) =>
    sample(String(weight), weightColour(weight)),
  );
  byId("legend").replaceChildren("weight:", ...weights, sample("masked", MASKED[theme()]));
}

/** What is to be said about the text: empty, too long, unknown characters. */
function textMessage(run, model) {
  const parts = [];
  if (run.unknown.length > 0) parts.push(unknownMessage(run.unknown));
  if (run.dropped > 0) {
    const limit = model.config.max_seq_len;
    parts.push(
      `The model’s context is ${limit} tokens: of ${run.dropped + limit} only the last ` +
        `${limit} are read.`,
    );
  }
  if (run.tokens.length === 0) parts.push("Type at least one character that the model knows.");
  return parts.join(" ");
}

/** Which characters the model does not know, at most five of them. */
function unknownMessage(unknown) {
  const names = [...new Set(unknown.map((one) => nameToken(one.character)))];
  const shown = names.slice(0, 5).join(", ") + (names.length > 5 ? ", …" : "");
  return (
    `The model does not know ${shown}: left out (${unknown.length} in all). Its ` +
    "training text had none of them."
  );
}
