"use strict";
/* Which model the page shows: the one inside it, or a file that the reader opens or drops. */

/* First texts by corpus, each with something to look back for. */
const START_TEXTS = {
  mock: "Who has the map?\nNo man has the m",
  shakespeare: "ROMEO:\nWhat say you? What s",
};

/** The model that the page carries; null if it carries none. */
function ownModel() {
  const description = JSON.parse(byId("model").textContent);
  return description === null ? null : readEmbedded(description);
}

/** A first text, of characters that this model knows. */
function startText(model) {
  const text = /shakespeare/i.test(model.about.data ?? "") ? START_TEXTS.shakespeare : START_TEXTS.mock;
  const { unknown } = encode(model, text);
  const strange = new Set(unknown.map((one) => one.character));
  return Array.from(text)
    .filter((character) => !strange.has(character))
    .join("");
}

/** Read a file, and hand the model to show(model). Whatever is wrong with it becomes a message. */
async function openFile(file, show) {
  say("file-says", `Reading ${file.name} …`);
  try {
    checkFileSize(file.size); // before it is in memory
    const model = readSafetensors(await file.arrayBuffer(), file.name);
    await show(model);
    say("file-says", `The page now shows ${file.name}.`);
  } catch (error) {
    say("file-says", `${file.name}: ${errorText(error)}`, true);
  }
}

/** What went wrong, for people. */
function errorText(error) {
  return error instanceof PageError ? error.message : `This did not work: ${error.message}`;
}

/** The file picker, and files that are dropped anywhere on the page. */
function listenToFiles(show) {
  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) openFile(file, show);
    event.target.value = ""; // so that the same file can be chosen again
  });
  const dropping = (on) => (event) => {
    event.preventDefault(); // or else the browser leaves the page for the file
    document.body.classList.toggle("dropping", on);
  };
  document.addEventListener("dragover", dropping(true));
  document.addEventListener("dragleave", dropping(false));
  document.addEventListener("drop", (event) => {
    dropping(false)(event);
    const [file] = event.dataTransfer?.files ?? [];
    if (!file) return;
    byId("own").scrollIntoView();
    openFile(file, show);
  });
}

/** The line below "A trained model". */
function modelLine({ config, about, title }) {
  const parameters = about.parameters.toLocaleString("en");
  return (
    `Here it is “${title}”: ${config.n_layers} layers of ${config.n_heads} heads, ` +
    `${parameters} parameters, a context of ${config.max_seq_len} tokens.`
  );
}

/** What a token is depends on the model. */
function textLabel({ tokenizer }) {
  const token = tokenizer.kind === "char" ? "Every character" : "Every piece of it";
  return `Type a text. ${token} is a token.`;
}

/** The table about the model. */
function renderAbout() {
  const { config, about, title } = state.model;
  const kind = state.model.tokenizer.kind === "char" ? "characters" : "by byte-pair encoding";
  const facts = [
    ["model", title],
    ["parameters", about.parameters.toLocaleString("en")],
    ["trained on", about.data ?? "not recorded"],
    [
      "validation loss",
      about.valLoss === null ? "not recorded" : `${show(about.valLoss)} nats per token`,
    ],
    ["tokens", `${config.vocab_size}, ${kind}`],
    ["context", `${config.max_seq_len} tokens`],
    ["layers", config.n_layers],
    ["heads", `${config.n_heads} per layer, ${config.n_kv_heads} for keys and values`],
    ["width", `${config.d_model}, of a head ${config.d_head}`],
    ["norm", `${config.norm}, ${config.norm_placement}`],
    ["feed-forward", `${config.activation}, ${config.d_ff} wide`],
    ["positions", config.position],
    ["biases, tied weights", `${config.bias ? "yes" : "no"}, ${config.tie_weights ? "yes" : "no"}`],
  ];
  const rows = facts.map(([name, value]) =>
    tableRow([name, make("td", { class: "word wide" }, value)]),
  );
  byId("about").replaceChildren(make("tbody", {}, ...rows));
}
