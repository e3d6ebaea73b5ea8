"use strict";
/* Attention as pictures: one small square per head, painted pixel by pixel. */

/** 256 shades of weight and one for masked cells, as the numbers that a canvas stores. */
function paintTable() {
  const packed = ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red;
  const shades = Uint32Array.from({ length: 256 }, (_, i) => packed(weightColour((i / 255) ** 2)));
  return { shades, masked: packed(MASKED[theme()]) >>> 0 };
}

/** Paint T x T weights, one pixel per cell. */
function paintMatrix(canvas, weights, T, causal, table) {
  if (canvas.width !== T || canvas.height !== T) canvas.width = canvas.height = T;
  const context = canvas.getContext("2d");
  const image = context.createImageData(T, T);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < T; i++) {
    for (let j = 0; j < T; j++) {
      const cell = i * T + j;
      const hidden = causal && j > i;
      // The table is indexed by the root of the weight, as in weightColour.
      pixels[cell] = hidden
        ? table.masked
        : table.shades[Math.round(255 * Math.sqrt(weights[cell]))];
    }
  }
  context.putImageData(image, 0, 0);
}

/** A row per layer, a button per head; cell(layer, head) makes what goes into the row. */
function buildHeadRows(container, cell) {
  const { n_layers, n_heads } = state.model.config;
  const rows = Array.from({ length: n_layers }, (_, layer) => {
    const cells = Array.from({ length: n_heads }, (_, head) => cell(layer, head));
    return make(
      "div",
      { class: "head-row", role: "group", "aria-label": `Layer ${layer}` },
      make("span", {}, `layer ${layer}`),
      ...cells,
    );
  });
  container.replaceChildren(...rows);
}

/** The grid of all heads, when a model arrives. */
function buildHeadGrid(choose) {
  buildHeadRows(byId("head-grid"), (layer, head) => {
    const canvas = make("canvas", { width: 1, height: 1, "aria-hidden": "true" });
    const button = make("button", {
      type: "button",
      "data-head": `${layer}.${head}`,
      "aria-label": `Layer ${layer}, head ${head}`,
    });
    button.append(canvas, `${layer}.${head}`);
    button.addEventListener("click", () => choose(layer, head));
    return button;
  });
}

/** Paint all heads, and mark the one that is shown. */
function renderHeadGrid() {
  const { result, causal } = state.run;
  const table = paintTable();
  for (const button of byId("head-grid").querySelectorAll("button")) {
    const [layer, head] = button.dataset.head.split(".").map(Number);
    const canvas = button.firstChild;
    paintMatrix(canvas, result.attention[layer][head], result.T, causal, table);
    canvas.style.imageRendering = result.T < 80 ? "pixelated" : "auto";
    button.setAttribute("aria-pressed", String(layer === state.layer && head === state.head));
  }
}

/** The pickers of layer and head, when a model arrives. */
function buildPickers() {
  const { n_layers, n_heads } = state.model.config;
  const options = (count) =>
    Array.from({ length: count }, (_, i) => make("option", { value: i }, String(i)));
  byId("layer").replaceChildren(...options(n_layers));
  byId("head").replaceChildren(...options(n_heads));
}

/** The bar that stays in sight. */
function renderBar() {
  byId("layer").value = String(state.layer);
  byId("head").value = String(state.head);
  byId("mask-causal").checked = state.causal;
  byId("mask-none").checked = !state.causal;
  document.querySelector(".bar").classList.toggle("untrained", !state.causal);
  say("bar-chosen", state.run?.result ? `of ${tokenAt(state.chosen)}` : "");
}
