"use strict";
/* The whole table of one head: T x T cells, with the row and the column of the chosen token. */

const matrixView = { cell: 1, margin: 0 }; // how large the last picture was drawn
const LARGEST_CELL = 40;
const LARGEST_TABLE = 640;

/** Cells as large as fit into a frame of constant size; tokens beside them where they are legible. */
function matrixSizes(T) {
  const room = Math.min(byId("table").clientWidth, LARGEST_TABLE);
  let margin = 24;
  let cell = Math.min(LARGEST_CELL, (room - margin) / T);
  if (cell < 11) {
    margin = 0;
    cell = room / T;
  }
  return { cell, margin, size: margin + cell * T };
}

/** Draw the table of the shown head. */
function renderMatrix() {
  const { T, weights } = shownHead();
  const { cell, margin, size } = Object.assign(matrixView, matrixSizes(T));
  const canvas = byId("matrix");
  const sharp = window.devicePixelRatio || 1;
  canvas.width = canvas.height = Math.round(size * sharp);
  canvas.style.width = canvas.style.height = `${size}px`;
  const context = canvas.getContext("2d");
  context.scale(sharp, sharp);
  context.imageSmoothingEnabled = false;
  const small = document.createElement("canvas");
  paintMatrix(small, weights, T, state.run.causal, paintTable());
  context.drawImage(small, margin, margin, cell * T, cell * T);
  if (margin > 0) drawMatrixLabels(context, cell, margin);
  drawFrames(context, T, cell, margin);
  canvas.setAttribute("aria-label", `Attention weights of ${T} tokens. ${attentionSentence(3)}`);
  renderReadout(state.chosen, walkKey());
}

/** The tokens along both sides. */
function drawMatrixLabels(context, cell, margin) {
  const style = getComputedStyle(document.body);
  context.font = `${Math.min(15, cell + 3)}px ui-monospace, "DejaVu Sans Mono", Menlo, monospace`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = style.color;
  state.run.tokens.forEach((token, i) => {
    const place = margin + (i + 0.5) * cell;
    const text = showToken(token).slice(0, 3);
    context.fillText(text, margin / 2, place, margin);
    context.fillText(text, place, margin / 2, cell);
  });
}

/** Frames around row and column of the chosen token, and around the cell of the walk. */
function drawFrames(context, T, cell, margin) {
  const start = margin + state.chosen * cell;
  context.lineWidth = 2;
  context.strokeStyle = isDark() ? "#ffb36b" : "#b04a00"; // --chosen
  context.strokeRect(margin + 1, start, cell * T - 2, Math.max(cell, 2));
  context.strokeRect(start, margin + 1, Math.max(cell, 2), cell * T - 2);
  context.strokeStyle = isDark() ? "#86bdff" : "#0a56a3"; // --accent
  const key = margin + walkKey() * cell;
  context.strokeRect(key - 1, start - 1, Math.max(cell, 3) + 2, Math.max(cell, 3) + 2);
}

/** What one cell holds, in words. */
function renderReadout(i, j) {
  const { T, weights } = shownHead();
  const hidden = state.run.causal && j > i;
  const value = hidden
    ? "masked, exactly 0: the key lies in the future"
    : `weight ${show(weights[i * T + j], 4)}`;
  say("matrix-readout", `Query ${tokenAt(i)}, key ${tokenAt(j)}: ${value}.`);
}

/** The cell under the pointer: [query, key], or null. */
function cellAt(event) {
  const { cell, margin } = matrixView;
  const box = byId("matrix").getBoundingClientRect();
  const place = (offset) => Math.floor((offset - margin) / cell);
  const [i, j] = [place(event.clientY - box.top), place(event.clientX - box.left)];
  const T = state.run?.result?.T ?? 0;
  return i >= 0 && j >= 0 && i < T && j < T ? [i, j] : null;
}

/** Pointer and arrow keys on the table; choose(query, key) is called for a choice. */
function listenToMatrix(choose) {
  const canvas = byId("matrix");
  canvas.addEventListener("pointermove", (event) => {
    const cell = cellAt(event);
    if (cell) renderReadout(...cell);
  });
  canvas.addEventListener("pointerleave", () => {
    if (state.run?.result) renderReadout(state.chosen, walkKey());
  });
  canvas.addEventListener("click", (event) => {
    const cell = cellAt(event);
    if (cell) choose(...cell);
  });
  byId("matrix-frame").addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (!(event.key in moves) || !state.run?.result) return;
    event.preventDefault();
    const last = state.run.result.T - 1;
    const within = (value) => Math.min(Math.max(value, 0), last);
    choose(within(state.chosen + moves[event.key][0]), within(walkKey() + moves[event.key][1]));
  });
}

/** Row and column of the chosen token as a list; made only while it is open. */
function renderMatrixTable() {
  if (!byId("matrix-details").open) return;
  const { T, weights } = shownHead();
  const i = state.chosen;
  const rows = state.run.tokens.map((token, j) =>
    tableRow(
      [`${j} ${showToken(token)}`, show(weights[i * T + j], 4), show(weights[j * T + i], 4)],
      { class: j === i ? "chosen" : null },
    ),
  );
  const head = tableHead([
    "token",
    `from ${showToken(state.run.tokens[i])} (row)`,
    `to ${showToken(state.run.tokens[i])} (column)`,
  ]);
  byId("matrix-table").replaceChildren(head, make("tbody", {}, ...rows));
}
