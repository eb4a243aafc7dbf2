// Text and its bytes: QuickJS has no TextEncoder and no TextDecoder.

/// The text of these bytes; throws for what is not UTF-8.
export function decodeUtf8(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at++];
    const more = first < 0x80 ? 0 : first >= 0xc2 && first < 0xe0 ? 1 : first >= 0xe0 && first < 0xf0 ? 2 : first >= 0xf0 && first < 0xf5 ? 3 : -1;
    if (more < 0 || at + more > bytes.length) throw new Error(`no UTF-8 at byte ${at - 1}`);
    let code = more === 0 ? first : first & (0x3f >> more);
    for (let left = more; left > 0; left--) {
      const next = bytes[at++];
      if ((next & 0xc0) !== 0x80) throw new Error(`no UTF-8 at byte ${at - 1}`);
      code = (code << 6) | (next & 0x3f);
    }
    // Longer than need be, half of a surrogate pair, or beyond the last character.
    const least = [0, 0x80, 0x800, 0x10000][more];
    if (code < least || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff) throw new Error(`no UTF-8 before byte ${at}`);
    text += String.fromCodePoint(code);
  }
  return text;
}

/// The bytes of a text; half of a surrogate pair becomes U+FFFD.
export function encodeUtf8(text) {
  const bytes = [];
  for (const character of text) {
    let code = character.codePointAt(0);
    if (code >= 0xd800 && code < 0xe000) code = 0xfffd;
    if (code < 0x80) bytes.push(code);
    else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 0x3f));
    else if (code < 0x10000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
    else bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 0x3f), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
  }
  return new Uint8Array(bytes);
}
