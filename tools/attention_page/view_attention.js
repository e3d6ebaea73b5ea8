"use strict";
/* Where the chosen token looks: arcs above a line of tokens, and the largest weights in words. */

const ARC_HEIGHT = 130;

/** Draw an arc from the chosen token to every token that gets at least a hundredth. */
function drawArcs(svg, { tokens, weights, chosen, cell, numbers, label }) {
  const width = tokens.length * cell;
  const height = ARC_HEIGHT + 48;
  const at = (i) => (i + 0.5) * cell;
  filled(svg, { width, height, viewBox: `0 0 ${width} ${height}`, "aria-label": label }, []);
  const arcs = largestFirst(weights, weights.length)
    .filter((j) => weights[j] >= 0.01)
    .reverse() // the strongest arc lies on top
    .map((j) => arc(at(chosen), at(j), weights[j], width));
  const names = tokens.map((token, j) =>
    makeSvg(
      "text",
      { x: at(j), y: ARC_HEIGHT + 20, class: j === chosen ? "chosen" : null },
      showToken(token),
    ),
  );
  const values = numbers ? weights.map((weight, j) => numberBelow(at(j), weight, cell)) : [];
  svg.replaceChildren(...arcs, ...names, ...values.filter(Boolean));
}

/** One arc; a token that looks at itself gets a small loop. Far arcs are higher. */
function arc(from, to, weight, width) {
  const reach = Math.abs(from - to);
  const top = ARC_HEIGHT - Math.min(ARC_HEIGHT - 8, 24 + (reach / Math.max(width, 300)) * 260);
  const path =
    from === to
      ? `M ${from - 5} ${ARC_HEIGHT} C ${from - 16} ${top - 6}, ${from + 16} ${top - 6}, ${from + 5} ${ARC_HEIGHT}`
      : `M ${from} ${ARC_HEIGHT} C ${from} ${top}, ${to} ${top}, ${to} ${ARC_HEIGHT}`;
  const stroke = `rgb(${weightColour(0.08 + 0.92 * weight).join(" ")})`;
  return makeSvg("path", {
    d: path,
    fill: "none",
    stroke,
    "stroke-width": (1 + 8 * weight).toFixed(2),
  });
}

/** The weight below its token; in narrow rows only where there is something to read. */
function numberBelow(x, weight, cell) {
  if (weight < 0.005 && cell < 40) return null;
  const text = cell < 40 ? show(weight, 2).replace("0.", ".") : show(weight, 3);
  return makeSvg("text", { x, y: ARC_HEIGHT + 38, class: "number" }, text);
}

/** Bring a token of a wide row into sight, without moving the page. */
function scrollToToken(frame, chosen, cell) {
  const left = chosen * cell;
  const right = left + cell;
  if (left < frame.scrollLeft || right > frame.scrollLeft + frame.clientWidth) {
    frame.scrollLeft = left - frame.clientWidth + 3 * cell;
  }
}

/** The arcs of the model. */
function renderArcs() {
  const { tokens } = state.run;
  const weights = weightRow(state.chosen);
  const cell = state.model.tokenizer.kind === "char" ? 24 : 64;
  drawArcs(byId("arcs"), {
    tokens,
    weights,
    chosen: state.chosen,
    cell,
    numbers: byId("numbers").checked,
    label: attentionSentence(3),
  });
  scrollToToken(byId("arcs-scroll"), state.chosen, cell);
}

/** The five largest weights as a list; empty places keep its height. */
function renderStrongest() {
  const weights = weightRow(state.chosen);
  const best = largestFirst(weights, 5).filter((j) => weights[j] > 0);
  const items = Array.from({ length: 5 }, (_, rank) => {
    const j = best[rank];
    if (j === undefined) return make("li", { "aria-hidden": "true" }, "\u00a0");
    return make(
      "li",
      {},
      make("b", {}, showToken(state.run.tokens[j])),
      ` at ${j}: ${show(weights[j])}`,
    );
  });
  byId("strongest").replaceChildren(...items);
}

/** What the chosen token looks at, in one sentence. */
function attentionSentence(count) {
  const weights = weightRow(state.chosen);
  const parts = largestFirst(weights, count)
    .filter((j) => weights[j] > 0)
    .map((j) => `${tokenAt(j)} with ${show(weights[j], 2)}`);
  return `Layer ${state.layer}, head ${state.head}: ${tokenAt(state.chosen)} looks at ${parts.join(", ")}.`;
}
