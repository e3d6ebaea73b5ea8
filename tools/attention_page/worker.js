"use strict";

/*
 * Where the forward pass runs. A small model answers at once, here on the page. A model that takes
 * longer than SLOW moves to a worker, a second thread, so that typing never waits for it.
 *
 * A page opened from disk may not load a script for its worker, so the worker is made of the text
 * of two scripts that the page already has.
 */

const SLOW = 50; // milliseconds: more than this between a key and its letter is felt
const WORKER_SCRIPTS = ["checkpoint.js", "model.js"];

const engine = {
  newest: 0, // the number of the last call
  slow: new WeakSet(), // models whose last pass took longer than SLOW
  worker: null, // null until it is needed
  failed: false, // no worker here: everything runs on the page
  loaded: null, // the model that the worker holds
  running: null, // the call in the worker: one at a time, so that outdated ones never start
  waiting: null, // the newest call that could not start yet
};

/**
 * forward(model, ids, options), as a promise. If another call comes before it is done, the promise
 * resolves to null: only the newest text matters.
 */
async function computeForward(model, ids, options = {}) {
  const ticket = ++engine.newest;
  await null; // calls of the same moment: only the last of them computes
  if (ticket !== engine.newest) return null;
  const result = useWorker(model)
    ? await inWorker({ model, ids, options, ticket })
    : onPage(model, ids, options);
  return ticket === engine.newest ? result : null;
}

/** Compute here, and remember whether it took long. */
function onPage(model, ids, options) {
  const start = performance.now();
  const result = forward(model, ids, options);
  if (performance.now() - start > SLOW) engine.slow.add(model);
  return result;
}

/** Whether a pass belongs in the worker; starts the worker the first time. */
function useWorker(model) {
  if (!engine.slow.has(model) || engine.failed) return false;
  engine.worker ??= startWorker();
  return engine.worker !== null;
}

function startWorker() {
  try {
    const texts = WORKER_SCRIPTS.map((name) => scriptText(name));
    const source = [...texts, `(${workerMain})();`].join("\n");
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const worker = new Worker(url);
    worker.onmessage = ({ data }) => {
      finish(() => {
        if (data.error !== undefined) throw new PageError(data.error);
        return data.result;
      });
    };
    worker.onerror = () => {
      engine.failed = true; // the browser refuses workers on a page from disk
      engine.worker = null;
      if (engine.running === null) return;
      const { model, ids, options } = engine.running;
      finish(() => forward(model, ids, options));
    };
    return worker;
  } catch {
    engine.failed = true;
    return null;
  }
}

/** The text of a script of this page; the page's builder marks each with its file's name. */
function scriptText(name) {
  return document.querySelector(`script[data-file="${name}"]`).textContent;
}

/** Run a call in the worker, or let it wait for the pass that is running. */
function inWorker(call) {
  return new Promise((resolve, reject) => {
    engine.waiting?.resolve(null); // a newer call takes its place
    engine.waiting = { ...call, resolve, reject };
    if (engine.running === null) startWaiting();
  });
}

/** Start the call that waits, if there is one. */
function startWaiting() {
  const call = engine.waiting;
  engine.waiting = null;
  engine.running = call;
  if (call === null) return;
  if (engine.worker === null) {
    finish(() => forward(call.model, call.ids, call.options)); // the worker has failed
    return;
  }
  const { config, weights } = call.model;
  const model = engine.loaded === call.model ? null : { config, weights }; // sent once
  engine.loaded = call.model;
  engine.worker.postMessage({ model, ids: call.ids, options: call.options });
}

/** Settle the running call with what `compute` returns or throws, and start the next one. */
function finish(compute) {
  const { resolve, reject } = engine.running;
  try {
    resolve(compute());
  } catch (error) {
    reject(error);
  }
  startWaiting();
}

/** What the worker runs: it keeps the model, and answers each message with a result. */
function workerMain() {
  let model = null;
  self.onmessage = ({ data }) => {
    model = data.model ?? model;
    try {
      const result = forward(model, data.ids, data.options);
      self.postMessage({ result }, [...buffers(result)]);
    } catch (error) {
      self.postMessage({ error: error.message });
    }
  };

  /** The memory of every array, which is handed over and not copied. */
  function buffers(value, found = new Set()) {
    if (ArrayBuffer.isView(value)) found.add(value.buffer);
    else if (value !== null && typeof value === "object") {
      Object.values(value).forEach((each) => buffers(each, found));
    }
    return found;
  }
}
