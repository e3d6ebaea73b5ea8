"use strict";
/* Generation: draw a token, append it, compute again, until there are enough or one says
   stop. */

const sampler = { random: makeRandom(0), running: false, ids: [], start: "" };

/** A new stream of random numbers: the same seed and the same clicks give the same text. */
function seedSampler() {
  const seed = Number.parseInt(byId("sample-seed").value, 10);
  sampler.random = makeRandom(Number.isInteger(seed) ? seed : 0);
}

/** Draw the token after the last one. */
function drawNext() {
  const logits = logitsAfter(state.run.result.T - 1);
  return sampleFrom(reshape(logits, state.sampling), sampler.random);
}

/** The text with one token more. What was generated is decoded as a whole: in byte-pair encoding a
    character may be split over two tokens. */
function textWith(id) {
  if (state.generatedFrom === null) {
    Object.assign(sampler, { ids: [], start: state.text });
    state.generatedFrom = state.text.length;
  }
  sampler.ids.push(id);
  return sampler.start + decodeText(state.model, sampler.ids);
}

/** Append one token; false if there is nothing to continue, or the reader typed meanwhile. */
async function appendToken(setText) {
  if (!state.run?.result || state.run.text !== state.text) return false;
  state.chosen = state.run.tokens.length - 1; // what is drawn from is also what is shown
  const text = textWith(drawNext());
  await setText(text);
  return state.text === text;
}

/** How many tokens the reader asked for. */
function wantedTokens() {
  const count = Number.parseInt(byId("sample-count").value, 10);
  return Number.isInteger(count) ? Math.min(Math.max(count, 1), 1000) : 80;
}

/** Generate, one token at a time, so that one sees it come and can stop it. */
async function generateTokens(setText) {
  if (!state.run?.result) {
    say("sample-says", "Type at least one character first.");
    return;
  }
  const wanted = wantedTokens();
  showRunning(true);
  say("sample-says", "Generating…");
  let done = 0;
  while (sampler.running && done < wanted && (await appendToken(setText))) {
    done += 1;
    await new Promise((resolve) => setTimeout(resolve)); // the page shows it, and hears the stop
  }
  showRunning(false);
  say(
    "sample-says",
    `${done} ${done === 1 ? "token" : "tokens"} generated${done < wanted ? ", then stopped" : ""}.`,
  );
}

function showRunning(running) {
  sampler.running = running;
  byId("sample-stop").disabled = !running;
  byId("sample-many").disabled = running;
  byId("sample-one").disabled = running;
  // The button that was pressed is off now: the focus goes to the one that can be pressed.
  if (document.activeElement === document.body)
    byId(running ? "sample-stop" : "sample-many").focus({ preventScroll: true });
}

/** The text, with what was generated marked. */
function renderSampleText() {
  const from = state.generatedFrom ?? state.text.length;
  const frame = byId("sample-text");
  const parts = [state.text.slice(0, from)];
  if (from < state.text.length) parts.push(make("mark", {}, state.text.slice(from)));
  frame.replaceChildren(...parts);
  frame.scrollTop = frame.scrollHeight;
}

/** The buttons; setText(text) puts a text into the box and computes it. */
function listenToGeneration(setText) {
  byId("sample-one").addEventListener("click", async () => {
    const done = await appendToken(setText);
    say(
      "sample-says",
      done
        ? `Appended ${withArticle("a", state.run.tokens.at(-1))}.`
        : "Type at least one character first.",
    );
  });
  byId("sample-many").addEventListener("click", () => generateTokens(setText));
  byId("sample-stop").addEventListener("click", () => {
    sampler.running = false;
  });
  byId("sample-seed").addEventListener("change", seedSampler);
}
