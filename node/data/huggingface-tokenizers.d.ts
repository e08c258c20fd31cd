/**
 * The part of @huggingface/tokenizers that this project calls. The package's own declarations import
 * without file extensions, which NodeNext resolution does not find.
 */
declare module '@huggingface/tokenizers' {
  /** Splits text into pieces, which the model then splits into tokens. */
  type PreTokenizer = (text: string, options?: object) => string[];

  /** Places for tokens in a text that a Unigram model looks for the best way through. */
  interface Lattice {
    chars: string[];
    insert(position: number, length: number, score: number, id: number): void;
  }

  export class Tokenizer {
    normalizer: ((text: string) => string) | null;
    pre_tokenizer: PreTokenizer | null;
    model: { populate_nodes?: (this: object, lattice: Lattice) => void };
    /** Parsed tokenizer.json and tokenizer_config.json. Throws on kinds that it does not know. */
    constructor(tokenizer: object, config: object);
    encode(text: string, options?: { add_special_tokens?: boolean }): { ids: number[] };
    decode(
      ids: number[],
      options?: { skip_special_tokens?: boolean; clean_up_tokenization_spaces?: boolean },
    ): string;
    token_to_id(token: string): number | undefined;
    id_to_token(id: number): string | undefined;
    get_vocab(withAddedTokens?: boolean): Map<string, number>;
    get_added_tokens_decoder(): Map<number, unknown>;
  }
}
