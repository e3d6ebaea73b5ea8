"use strict";

/*
 * Text to token ids and back.
 *
 *     char    the id of a character is its index in `characters`
 *     bpe     the ids are the 256 bytes, then the merges in the order in which they were learned,
 *             then the special tokens
 *
 * A character is a Unicode code point, as in Python: an emoji is one character, although a
 * JavaScript string has two units for it. So texts are walked with `for ... of`, never by index.
 */

/* GPT-2's pattern: a word keeps the space before it, and no merge crosses the end of a word. */
const WORDS = new RegExp(
  "'(?:s|t|re|ve|m|ll|d)" +
    "| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+" +
    "|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+",
  "gu",
);

/** What a checkpoint stores -> {kind, characters, size, ...}; throws PageError. */
function readTokenizer(stored) {
  if (stored.kind === "char") return characterTokenizer(stored.characters);
  if (stored.kind === "bpe") return bpeTokenizer(stored.merges, stored.special_tokens ?? []);
  throw new PageError(
    `The page does not know the tokenizer ${quote(stored.kind)}; it knows "char" and "bpe".`,
  );
}

function characterTokenizer(characters) {
  const damaged = new PageError("This checkpoint is damaged: its characters are unreadable.");
  if (typeof characters !== "string") throw damaged;
  const pieces = Array.from(characters);
  const idOf = new Map(pieces.map((character, id) => [character, id]));
  if (idOf.size !== pieces.length) throw damaged; // one of them stands there twice
  return { kind: "char", characters, size: pieces.length, pieces, idOf };
}

function bpeTokenizer(merges, specialTokens) {
  const damaged = new PageError("This checkpoint is damaged: its merges are unreadable.");
  if (!Array.isArray(merges) || !Array.isArray(specialTokens)) throw damaged;
  const bytes = Array.from({ length: 256 }, (_, byte) => [byte]); // of every token
  const idOf = new Map(); // "left right" -> the id that this merge makes
  for (const [left, right] of merges) {
    if (bytes[left] === undefined || bytes[right] === undefined) throw damaged;
    idOf.set(`${left} ${right}`, bytes.length);
    bytes.push(bytes[left].concat(bytes[right]));
    if (bytes.at(-1).length > 10_000) throw damaged; // it must not fill the memory
  }
  for (const token of specialTokens) bytes.push([...new TextEncoder().encode(token)]);
  return { kind: "bpe", characters: "", size: bytes.length, bytes, idOf };
}

/**
 * A text -> {ids, unknown}: the ids of what the tokenizer knows, and each character that it doesn't
 * know, with its index. Unknown characters are left out of the ids.
 */
function encode(model, text) {
  const { kind, idOf } = model.tokenizer;
  const unknown = [];
  const known = [];
  let index = 0;
  for (const character of text) {
    // Half of a surrogate pair, on its own, is not a character: UTF-8 can't write it.
    const accepted = kind === "char" ? idOf.has(character) : !/^[\ud800-\udfff]$/.test(character);
    if (accepted) known.push(character);
    else unknown.push({ character, index });
    index += 1;
  }
  if (kind === "char") {
    return { ids: Int32Array.from(known, (character) => idOf.get(character)), unknown };
  }
  const words = known.join("").match(WORDS) ?? [];
  return { ids: Int32Array.from(words.flatMap((word) => encodeWord(word, idOf))), unknown };
}

/** Byte-pair encoding of one word: of the pairs that stand there, the earliest merge goes first. */
function encodeWord(word, idOf) {
  let ids = [...new TextEncoder().encode(word)];
  for (;;) {
    let first = Infinity; // the id that the earliest merge makes
    for (let i = 0; i + 1 < ids.length; i++) {
      first = Math.min(first, idOf.get(`${ids[i]} ${ids[i + 1]}`) ?? Infinity);
    }
    if (first === Infinity) return ids; // none of the pairs was ever merged
    const merged = [];
    for (let i = 0; i < ids.length; i++) {
      const joined = i + 1 < ids.length && idOf.get(`${ids[i]} ${ids[i + 1]}`) === first;
      merged.push(joined ? first : ids[i]);
      if (joined) i += 1; // both are used up
    }
    ids = merged;
  }
}

/** A decoder that keeps a byte-order mark, as Python does. */
function utf8Decoder() {
  return new TextDecoder("utf-8", { ignoreBOM: true });
}

/** Token ids -> the text of each. Bytes that are only part of a character show as U+FFFD. */
function decode(model, ids) {
  const { kind, pieces, bytes } = model.tokenizer;
  if (kind === "char") return Array.from(ids, (id) => pieces[id]);
  return Array.from(ids, (id) => utf8Decoder().decode(Uint8Array.from(bytes[id])));
}

/** Token ids -> one text, in which characters that were split over tokens are whole again. */
function decodeText(model, ids) {
  const { kind, bytes } = model.tokenizer;
  if (kind === "char") return decode(model, ids).join("");
  return utf8Decoder().decode(Uint8Array.from(Array.from(ids).flatMap((id) => bytes[id])));
}
