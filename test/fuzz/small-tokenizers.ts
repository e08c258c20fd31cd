/** A tokenizer.json of each kind, as small as it can be. */

const LETTERS = Array.from('abcdefghijklmnopqrstuvwxyzH,!12 .\n');
const TOKENS = ['<|end|>', ...LETTERS, 'he', 'hel', 'lo', '##lo', '[UNK]'];
const vocab = Object.fromEntries(TOKENS.map((token, id) => [token, id]));

const added = [
  { id: 0, content: '<|end|>', special: true, single_word: false, lstrip: false, rstrip: false },
];

export const SMALL_TOKENIZERS: readonly object[] = [
  {
    added_tokens: added,
    normalizer: { type: 'Sequence', normalizers: [{ type: 'NFC' }, { type: 'Lowercase' }] },
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    post_processor: {
      type: 'TemplateProcessing',
      single: [
        { SpecialToken: { id: '<|end|>', type_id: 0 } },
        { Sequence: { id: 'A', type_id: 0 } },
      ],
      pair: [],
      special_tokens: { '<|end|>': { id: '<|end|>', ids: [0], tokens: ['<|end|>'] } },
    },
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab,
      merges: [
        ['h', 'e'],
        ['he', 'l'],
        ['l', 'o'],
      ],
      unk_token: '[UNK]',
    },
  },
  {
    added_tokens: added,
    normalizer: { type: 'BertNormalizer', lowercase: true, strip_accents: true, clean_text: true },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: null,
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      vocab,
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
    },
  },
  {
    added_tokens: added,
    normalizer: { type: 'Replace', pattern: { Regex: ' {2,}' }, content: '▁' },
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first' },
    post_processor: null,
    decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first' },
    model: {
      type: 'Unigram',
      unk_id: 0,
      vocab: TOKENS.map((token, id) => [token, -id]),
    },
  },
  {
    added_tokens: added,
    normalizer: null,
    post_processor: null,
    pre_tokenizer: {
      type: 'Split',
      pattern: { Regex: '\\s+|\\w+' },
      behavior: 'Isolated',
      invert: false,
    },
    decoder: { type: 'Sequence', decoders: [{ type: 'ByteFallback' }, { type: 'Fuse' }] },
    model: { type: 'BPE', vocab, merges: ['h e', 'he l'], byte_fallback: true, unk_token: '[UNK]' },
  },
];
