"use strict";
/* The start of the page: connect the controls with the state, and draw again what changed. */

const NEEDS_COMPUTING = ["model", "text", "causal", "headsOff"];

/** Change the state; compute if the model has to run again; draw. */
async function change(changes) {
  Object.assign(state, changes);
  if (!state.model) return;
  try {
    if (NEEDS_COMPUTING.some((name) => name in changes) && !(await compute())) return;
    if (state.run) render();
  } catch (error) {
    say("text-says", errorText(error), true);
  }
}

/** Run the model on the text; false if a newer change overtook this one. */
async function compute() {
  const run = await computeRun();
  if (run === null || run.model !== state.model || run.text !== state.text) return false;
  // A choice at the end of the text stays at the end, however long the text becomes.
  const followed = state.run === null || state.chosen >= state.run.tokens.length - 1;
  state.run = run;
  const last = Math.max(run.tokens.length - 1, 0);
  if (followed || state.chosen > last) state.chosen = last;
  return true;
}

/** Draw everything that depends on the state. */
function render() {
  const { run } = state;
  renderBar();
  renderSliders();
  renderTokens();
  renderSampleText();
  const message = textMessage(run, state.model);
  say("text-says", message, message !== "");
  document.body.classList.toggle("empty", run.result === null);
  if (run.result === null) return; // nothing to draw: the message says what to do
  renderArcs();
  renderStrongest();
  renderHeadGrid();
  renderMatrix();
  renderMatrixTable();
  renderWalk();
  renderLens();
  renderSwitches();
  renderNext();
  renderTasks();
}

/** Show another model. */
async function showModel(model) {
  Object.assign(state, {
    model,
    run: null,
    layer: 0,
    head: 0,
    key: null,
    chosen: 0,
    causal: true,
    headsOff: new Set(),
    step: 0,
    generatedFrom: null,
  });
  document.body.classList.remove("without-model");
  byId("no-model").hidden = true;
  say("model-line", modelLine(model));
  say("text-label", textLabel(model));
  buildPickers();
  buildHeadGrid((layer, head) => change({ layer, head }));
  buildSwitches(toggleHead);
  buildSliders();
  buildTasks();
  renderAbout();
  byId("text-box").value = startText(model);
  await change({ model, text: byId("text-box").value });
}

/** Choose a token; the walk follows its largest weight again. */
async function chooseToken(i) {
  await change({ chosen: i, key: null });
  if (state.run?.result) announce(attentionSentence(3));
}

/** Choose a cell of the table. */
async function chooseCell(chosen, key) {
  await change({ chosen, key });
  announce(byId("matrix-readout").textContent);
}

/** Another step of the walk, or another key. */
async function changeWalk(changes) {
  await change(changes);
  if (!state.run?.result) return;
  const [title, text] = byId("walk-panel").children;
  announce(`${title.textContent}. ${text.textContent}`);
}

async function toggleHead(name, on) {
  const headsOff = new Set(state.headsOff);
  if (on) headsOff.delete(name);
  else headsOff.add(name);
  await change({ headsOff });
  announce(byId("loss-says").textContent);
}

/** Put a generated text into the box. */
async function setText(text) {
  byId("text-box").value = text;
  await change({ text });
}

function listen() {
  byId("text-box").addEventListener("input", (event) => {
    sampler.running = false; // who types takes over
    change({ text: event.target.value, generatedFrom: null });
  });
  tokenRow(byId("tokens"), chooseToken);
  byId("layer").addEventListener("change", (event) =>
    change({ layer: Number(event.target.value) }),
  );
  byId("head").addEventListener("change", (event) => change({ head: Number(event.target.value) }));
  byId("mask-causal").addEventListener("change", () => change({ causal: true }));
  byId("mask-none").addEventListener("change", () => change({ causal: false }));
  byId("numbers").addEventListener("change", () => change({}));
  byId("matrix-details").addEventListener("toggle", () => change({}));
  byId("switch-all").addEventListener("click", () => change({ headsOff: new Set() }));
  byId("switch-measure").addEventListener("click", onMeasure);
  listenToMatrix(chooseCell);
  listenToWalk(changeWalk);
  listenToSliders(change);
  listenToGeneration(setText);
  listenToFiles(showModel);
  byId("theme").addEventListener("click", switchTheme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", renderColours);
  window.addEventListener("resize", onResize);
}

/** Pictures whose size depends on the window. */
function onResize() {
  renderToy();
  if (state.run?.result) renderMatrix();
}

/** Light or dark, whatever the system says. */
function switchTheme() {
  document.documentElement.style.colorScheme = isDark() ? "light" : "dark";
  renderColours();
}

/** Colours that scripts set have to be set again. */
function renderColours() {
  byId("theme").textContent = isDark() ? "Light" : "Dark"; // what it switches to
  byId("theme").setAttribute("aria-label", isDark() ? "Light colours" : "Dark colours");
  renderLegend();
  renderToy();
  if (state.run) render();
}

async function start() {
  startToy();
  startTasks();
  listen();
  renderColours();
  try {
    const model = ownModel();
    if (model) await showModel(model);
  } catch (error) {
    say("file-says", errorText(error), true);
  }
}

start();
