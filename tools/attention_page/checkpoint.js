"use strict";

/*
 * From a file to a model: read the weights, and check that they are what they claim to be.
 *
 * A .safetensors file holds three things, one after the other:
 *
 *     8 bytes       the length of the header
 *     the header    JSON: for each tensor its name, dtype, shape and place, and "__metadata__"
 *     the data      the numbers of all tensors, little-endian
 *
 * The metadata of this course's checkpoints has everything else that a model needs: its
 * configuration and its tokenizer, both as JSON. The page carries its own model in the same form,
 * with the weights rounded to 16 bits.
 *
 * A model is {config, tokenizer, weights, shapes, title, about}. `weights` maps PyTorch's name of a
 * parameter ("blocks.0.attention.q_proj.weight") to a Float32Array, row after row.
 */

const CHECKPOINT_FORMAT = "tiny-transformer-1";
const LARGEST_FILE = 64 * 1024 * 1024; // bytes; a larger model would take seconds per keystroke

/** A problem that the reader of the page can fix; its message is one sentence for people. */
class PageError extends Error {}

/* The fields of a model's configuration: the type of each, and its value where a file has none.
 * They are those of ModelConfig in utils/config.py. */
const CONFIG_DEFAULTS = {
  vocab_size: 65,
  max_seq_len: 64,
  d_model: 128,
  n_layers: 4,
  n_heads: 4,
  n_kv_heads: null, // null: as many as n_heads
  d_ff: null, // null: 4 * d_model
  norm: "layernorm",
  norm_placement: "pre",
  activation: "gelu",
  position: "learned",
  qk_norm: false,
  bias: true,
  tie_weights: true,
  dropout: 0.0,
};

const CONFIG_CHOICES = {
  norm: ["layernorm", "rmsnorm"],
  norm_placement: ["pre", "post"],
  activation: ["gelu", "relu2", "swiglu"],
  position: ["learned", "sinusoidal", "rope", "alibi"],
};

/** Read a checkpoint of the course: the bytes of a .safetensors file -> a model. */
function readSafetensors(buffer, name = "your checkpoint") {
  checkFileSize(buffer.byteLength);
  const { header, data } = splitFile(buffer);
  const metadata = header.__metadata__ ?? {};
  checkFormat(metadata);
  const tensors = {};
  for (const [tensor, entry] of Object.entries(header)) {
    if (tensor !== "__metadata__") tensors[tensor] = readTensor(tensor, entry, data);
  }
  return buildModel(metadata, tensors, name);
}

/** Read the model that the page carries: {metadata, tensors: {name: {shape, float16}}}. */
function readEmbedded(description) {
  const metadata = description.metadata;
  checkFormat(metadata);
  const tensors = {};
  for (const [name, { shape, float16 }] of Object.entries(description.tensors)) {
    tensors[name] = { shape, values: fromFloat16(base64Bytes(float16)) };
  }
  return buildModel(metadata, tensors, "the model of this page");
}

/** The model that the page carries, or null if it carries none. */
function embeddedModel() {
  const description = JSON.parse(document.getElementById("model").textContent);
  return description === null ? null : readEmbedded(description);
}

/** Refuse a file by its size, before it is read into memory. */
function checkFileSize(bytes) {
  if (bytes > LARGEST_FILE) {
    const megabytes = (n) => Math.round(n / 1024 / 1024);
    throw new PageError(
      `This file has ${megabytes(bytes)} MB; the page reads checkpoints of up to ` +
        `${megabytes(LARGEST_FILE)} MB.`,
    );
  }
}

/** The header, parsed, and the bytes after it. */
function splitFile(buffer) {
  const foreign = new PageError(
    "This is not a .safetensors file; choose best.safetensors from the folder of a run.",
  );
  if (buffer.byteLength < 10) throw foreign;
  const length = new DataView(buffer).getBigUint64(0, true); // true: little-endian
  const firstCharacter = new Uint8Array(buffer)[8];
  if (firstCharacter !== "{".charCodeAt(0)) throw foreign;
  if (length > BigInt(buffer.byteLength - 8)) throw truncated();
  const end = 8 + Number(length);
  try {
    const header = JSON.parse(utf8(new Uint8Array(buffer, 8, Number(length))));
    return { header, data: new Uint8Array(buffer, end) };
  } catch {
    throw foreign; // not UTF-8, or not JSON
  }
}

/** Bytes of UTF-8 -> text; throws if they are not UTF-8. */
function utf8(bytes) {
  return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
}

function truncated() {
  return new PageError("This checkpoint is truncated: the file ends before its last weight.");
}

/** Only checkpoints of this course say how their model computes. */
function checkFormat(metadata) {
  if (metadata.format !== CHECKPOINT_FORMAT) {
    const found = metadata.format === undefined ? "none" : quote(metadata.format);
    throw new PageError(
      `This file is not a checkpoint of the course: its format is ${found}, ` +
        `not "${CHECKPOINT_FORMAT}".`,
    );
  }
}

/** One tensor of a .safetensors file: {shape, values}, whatever its dtype, as float32. */
function readTensor(name, entry, data) {
  const read = { F32: fromFloat32, F16: fromFloat16, BF16: fromBfloat16 }[entry?.dtype];
  if (read === undefined || !Array.isArray(entry.shape) || !Array.isArray(entry.data_offsets)) {
    throw new PageError(
      `The tensor ${quote(name)} has the dtype ${quote(entry?.dtype)}; ` +
        `the page reads F32, F16 and BF16.`,
    );
  }
  const [start, end] = entry.data_offsets;
  if (end > data.length) throw truncated();
  const bytesPerValue = entry.dtype === "F32" ? 4 : 2;
  const count = entry.shape.reduce((product, size) => product * size, 1);
  if (!(start >= 0) || end - start !== count * bytesPerValue) {
    throw new PageError(`This checkpoint is damaged: ${quote(name)} has a wrong size.`);
  }
  return { shape: entry.shape, values: read(data.slice(start, end)) };
}

/** Four bytes per value, as they are. */
function fromFloat32(bytes) {
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** bfloat16 is the upper half of a float32: append 16 zero bits. */
function fromBfloat16(bytes) {
  const view = new DataView(bytes.buffer);
  const bits = Uint32Array.from(
    { length: bytes.length / 2 },
    (_, i) => view.getUint16(2 * i, true) << 16,
  );
  return new Float32Array(bits.buffer);
}

/**
 * IEEE half precision: 1 bit of sign, 5 of exponent, 10 of fraction.
 *
 *     value = (-1)^sign * 2^(exponent - 15) * (1 + fraction / 1024)
 *
 * Exponent 0 is for numbers too small to have the leading 1, exponent 31 for infinity and NaN.
 */
function fromFloat16(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = new Float32Array(bytes.length / 2);
  for (let i = 0; i < values.length; i++) {
    const bits = view.getUint16(2 * i, true);
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    if (exponent === 0) values[i] = sign * 2 ** -14 * (fraction / 1024);
    else if (exponent === 31) values[i] = fraction ? NaN : sign * Infinity;
    else values[i] = sign * 2 ** (exponent - 15) * (1 + fraction / 1024);
  }
  return values;
}

/** base64 text -> bytes. */
function base64Bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** Put configuration, tokenizer and weights together; throws PageError where they disagree. */
function buildModel(metadata, tensors, name) {
  const config = readConfig(parseJson(metadata.model_config, "configuration"));
  const tokenizer = readTokenizer(parseJson(metadata.tokenizer, "tokenizer"));
  const info = metadata.info === undefined ? {} : parseJson(metadata.info, "description");
  checkWeights(config, tensors);
  if (tokenizer.size !== config.vocab_size) {
    throw new PageError(
      `This checkpoint is inconsistent: its tokenizer has ${tokenizer.size} tokens, ` +
        `but its vocab_size is ${config.vocab_size}.`,
    );
  }
  const weights = {};
  const shapes = {};
  let parameters = 0;
  for (const [tensor, { shape, values }] of Object.entries(tensors)) {
    weights[tensor] = values;
    shapes[tensor] = shape;
    parameters += values.length;
  }
  const about = {
    parameters,
    valLoss: typeof info.val_loss === "number" ? info.val_loss : null, // nats per token
    data: typeof info.corpus === "string" ? info.corpus : null,
    step: typeof info.step === "number" ? info.step : null,
  };
  const title = typeof info.title === "string" ? info.title : name;
  return { config, tokenizer, weights, shapes, title, about };
}

/** One field of the metadata, which must hold a JSON object. */
function parseJson(text, what) {
  try {
    const value = JSON.parse(text);
    if (value !== null && typeof value === "object" && !Array.isArray(value)) return value;
  } catch {
    // reported below
  }
  throw new PageError(`This checkpoint is damaged: its ${what} is missing or unreadable.`);
}

/** The configuration with every default filled in, and the width of a head, d_head. */
function readConfig(stored) {
  const config = { ...CONFIG_DEFAULTS };
  for (const [field, value] of Object.entries(stored)) {
    if (!Object.hasOwn(CONFIG_DEFAULTS, field)) {
      throw new PageError(`The page does not know ${quote(field)}, a field of this configuration.`);
    }
    config[field] = value;
  }
  config.n_kv_heads ??= config.n_heads;
  config.d_ff ??= 4 * config.d_model;
  checkConfig(config);
  config.d_head = config.d_model / config.n_heads;
  return config;
}

/** The rules of ModelConfig: sizes from 1, known names, heads that divide what they share. */
function checkConfig(config) {
  const refuse = (field) => {
    throw new PageError(
      `This checkpoint's configuration is wrong: ${field} is ${quote(config[field])}.`,
    );
  };
  for (const [field, standard] of Object.entries(CONFIG_DEFAULTS)) {
    const value = config[field];
    if (field === "dropout") continue; // used in training only
    if (typeof standard === "boolean") {
      if (typeof value !== "boolean") refuse(field);
    } else if (typeof standard === "string") {
      if (!CONFIG_CHOICES[field].includes(value)) refuse(field);
    } else if (!Number.isInteger(value) || value < 1 || value > 1e6) refuse(field);
  }
  if (config.d_model % config.n_heads !== 0) refuse("n_heads");
  if (config.n_heads % config.n_kv_heads !== 0) refuse("n_kv_heads");
  if (config.position === "rope" && (config.d_model / config.n_heads) % 2 !== 0) refuse("position");
}

/** Every parameter that a model of this configuration has: its name and its shape. */
function expectedShapes(config) {
  const { vocab_size, d_model, d_ff, n_layers, n_kv_heads, d_head } = config;
  const shapes = { "token_embedding.weight": [vocab_size, d_model] };
  const linear = (name, n_in, n_out) => {
    shapes[`${name}.weight`] = [n_out, n_in];
    if (config.bias) shapes[`${name}.bias`] = [n_out];
  };
  const norm = (name) => {
    shapes[`${name}.weight`] = [d_model];
    if (config.bias && config.norm === "layernorm") shapes[`${name}.bias`] = [d_model];
  };
  if (config.position === "learned") {
    shapes["position_embedding.weight"] = [config.max_seq_len, d_model];
  }
  for (let layer = 0; layer < n_layers; layer++) {
    const block = `blocks.${layer}`;
    norm(`${block}.attention_norm`);
    linear(`${block}.attention.q_proj`, d_model, d_model);
    linear(`${block}.attention.k_proj`, d_model, n_kv_heads * d_head);
    linear(`${block}.attention.v_proj`, d_model, n_kv_heads * d_head);
    linear(`${block}.attention.out_proj`, d_model, d_model);
    norm(`${block}.feed_forward_norm`);
    if (config.activation === "swiglu") linear(`${block}.feed_forward.gate_proj`, d_model, d_ff);
    linear(`${block}.feed_forward.up_proj`, d_model, d_ff);
    linear(`${block}.feed_forward.down_proj`, d_ff, d_model);
  }
  if (config.norm_placement === "pre") norm("final_norm");
  if (!config.tie_weights) shapes["unembedding.weight"] = [vocab_size, d_model];
  return shapes;
}

/** Every expected parameter must be there, in its shape, finite, and no other. */
function checkWeights(config, tensors) {
  const stored = Object.keys(tensors);
  if (config.n_layers > stored.length) missing(`blocks.${config.n_layers - 1}`);
  const expected = expectedShapes(config);
  for (const [name, shape] of Object.entries(expected)) {
    if (!Object.hasOwn(tensors, name)) missing(name);
    const found = tensors[name].shape;
    if (found.join() !== shape.join()) {
      throw new PageError(
        `The weights do not fit their configuration: ${name} is ${found.join(" x ")}, ` +
          `not ${shape.join(" x ")}.`,
      );
    }
    if (!tensors[name].values.every(Number.isFinite)) {
      throw new PageError(`This checkpoint is damaged: ${name} holds values that are not finite.`);
    }
  }
  const extra = stored.find((name) => !Object.hasOwn(expected, name));
  if (extra !== undefined) {
    throw new PageError(
      `The weights do not fit their configuration: it has no place for ${quote(extra)}.`,
    );
  }
}

function missing(name) {
  throw new PageError(`The weights do not fit their configuration: ${name} is missing.`);
}

/** A value from a file as it can stand in a message: short, and on one line. */
function quote(value) {
  const text = JSON.stringify(value) ?? "missing";
  return text.length <= 40 ? text : `${text.slice(0, 37)}..."`;
}
