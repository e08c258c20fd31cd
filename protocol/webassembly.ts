/** Instantiates the modules that are in the program as base64. */

/** What is used here of a global that TypeScript knows in browsers only. */
declare const WebAssembly:
  | undefined
  | {
      validate(bytes: Uint8Array): boolean;
      Module: new (bytes: Uint8Array) => object;
      Instance: new (module: object) => { exports: object };
    };

/** The exports of a new instance; null where WebAssembly is missing, or an instruction of the module is. */
export function instantiate(base64: string): object | null {
  const bytes = Buffer.from(base64, 'base64');
  if (typeof WebAssembly === 'undefined' || !WebAssembly.validate(bytes)) return null;
  return new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports;
}
