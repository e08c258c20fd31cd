/**
 * Patterns of file names as fsspec has them, which data set cards use. By a table rather than a regular expression,
 * whose time a pattern from others could make grow without bound.
 */
type Token =
  | { kind: 'one'; matches: (character: string) => boolean }
  /** Any number of characters; `crosses`: slashes too. */
  | { kind: 'any'; crosses: boolean }
  /** The two of "**" and a slash: nothing at all, or whole folders with their slash. */
  | { kind: 'skip' }
  | { kind: 'folders' };

/** Whether `path` (with slashes) as a whole is of the form `pattern`: `*`, `**`, `?` and `[a-z]`. */
export function matchesGlob(pattern: string, path: string): boolean {
  if (!/[*?[]/.test(pattern)) return pattern === path;
  // After i characters of the path: which tokens may be next.
  const tokens = tokensOf(pattern);
  let next = closed([true], tokens);
  for (const character of path) {
    const after = tokens.map(() => false);
    for (const [i, token] of tokens.entries()) {
      if (next[i] !== true) continue;
      if (token.kind === 'one' && token.matches(character)) after[i + 1] = true;
      if (token.kind === 'any' && (token.crosses || character !== '/')) after[i] = true;
      if (token.kind === 'folders') after[i] = true;
      if (token.kind === 'folders' && character === '/') after[i + 1] = true;
    }
    next = closed(after, tokens);
  }
  return next[tokens.length] === true;
}

/** `reached` and what follows without a character. */
function closed(reached: boolean[], tokens: readonly Token[]): boolean[] {
  for (const [i, token] of tokens.entries()) {
    if (reached[i] !== true) continue;
    if (token.kind === 'any' || token.kind === 'skip') reached[i + 1] = true;
    if (token.kind === 'skip') reached[i + 2] = true;
  }
  return reached;
}

function tokensOf(pattern: string): Token[] {
  const tokens: Token[] = [];
  const pieces = pattern.matchAll(/\*\*\/|\*\*|\*|\?|\[[!^]?[^\]]+\]|[^]/gu);
  for (const [piece] of pieces) {
    if (piece === '**/') tokens.push({ kind: 'skip' }, { kind: 'folders' });
    else if (piece.startsWith('*')) tokens.push({ kind: 'any', crosses: piece.length > 1 });
    else if (piece === '?') tokens.push({ kind: 'one', matches: (one) => one !== '/' });
    else if (piece.length > 2 && piece.startsWith('[')) tokens.push(classOf(piece.slice(1, -1)));
    else tokens.push({ kind: 'one', matches: (one) => one === piece });
  }
  return tokens;
}

/** Characters and ranges of them, perhaps negated. */
function classOf(text: string): Token {
  const isNegated = /^[!^]/.test(text);
  const members = [...(isNegated ? text.slice(1) : text).matchAll(/([^])-([^])|([^])/gu)];
  const isMember = (one: string): boolean =>
    members.some(([, from, to, single]) =>
      single === undefined ? (from ?? '') <= one && one <= (to ?? '') : one === single,
    );
  return { kind: 'one', matches: (one) => one !== '/' && isMember(one) !== isNegated };
}
