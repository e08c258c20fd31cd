/**
 * The part of @huggingface/tokenizers that this project calls. The package's own declarations import
 * without file extensions, which NodeNext resolution does not find.
 */
declare module '@huggingface/tokenizers' {
  export class Tokenizer {
    /** Parsed tokenizer.json and tokenizer_config.json. Throws on kinds that it does not know. */
    constructor(tokenizer: object, config: object);
    encode(text: string, options?: { add_special_tokens?: boolean }): { ids: number[] };
    decode(
      ids: number[],
      options?: { skip_special_tokens?: boolean; clean_up_tokenization_spaces?: boolean },
    ): string;
    token_to_id(token: string): number | undefined;
    get_vocab(withAddedTokens?: boolean): Map<string, number>;
    get_added_tokens_decoder(): Map<number, unknown>;
  }
}
