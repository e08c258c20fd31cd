/** How the weights of a checkpoint are quantised, by the `quantization_config` of its config.json. */
import { z } from 'zod';
import { UserError } from '../../errors.js';

/** What can be read; `zeroOffset` is added to the zero points of a GPTQ file. */
export type Quantisation =
  | { readonly method: 'bitsandbytes' }
  | {
      readonly method: 'gptq';
      readonly bits: 2 | 4 | 8;
      readonly groupSize: number;
      readonly zeroOffset: 0 | 1;
    }
  | { readonly method: 'awq'; readonly groupSize: number };

/** The name that people know it by. */
export function describeQuantisation(quantisation: Quantisation): string {
  switch (quantisation.method) {
    case 'bitsandbytes':
      return 'bitsandbytes, 4 bits';
    case 'gptq':
      return `GPTQ, ${quantisation.bits} bits`;
    case 'awq':
      return 'AWQ, 4 bits';
  }
}

const rawSchema = z.looseObject({
  quant_method: z.string().nullish(),
  load_in_4bit: z.boolean().nullish(),
  load_in_8bit: z.boolean().nullish(),
  bits: z.number().nullish(),
  w_bit: z.number().nullish(),
  group_size: z.number().nullish(),
  q_group_size: z.number().nullish(),
  checkpoint_format: z.string().nullish(),
  version: z.string().nullish(),
});
type Raw = z.infer<typeof rawSchema>;

/** Inputs that share a scale in a file of GPTQ or AWQ; -1 stands for all of a row. */
const GROUP_SIZE_MAX = 1 << 20;

const INSTEAD =
  'take the model without quantisation (murmurate packs it into 8 or 4 bits itself: --weights), or one in 4 bits of bitsandbytes, GPTQ or AWQ';

/** Null for a checkpoint of plain numbers. Throws UserError for a method, or a variant of one, that is not read. */
export function readQuantisation(value: unknown, sourceName: string): Quantisation | null {
  if (value === undefined || value === null) return null;
  const parsed = rawSchema.safeParse(value);
  const refuse = (what: string): never => {
    throw new UserError(`${sourceName}: weights quantised by ${what} are not read: ${INSTEAD}`);
  };
  if (!parsed.success) return refuse('something that quantization_config does not say clearly');
  const raw = parsed.data;
  const method = raw.quant_method ?? (raw.load_in_4bit ? 'bitsandbytes' : null);
  switch (method) {
    case 'bitsandbytes':
      return raw.load_in_4bit ? { method } : refuse('bitsandbytes in 8 bits');
    case 'gptq':
      return readGptq(raw, refuse);
    case 'awq':
      return readAwq(raw, refuse);
    default:
      return refuse(method === null ? 'an unnamed method' : JSON.stringify(method.slice(0, 40)));
  }
}

function readGptq(raw: Raw, refuse: (what: string) => never): Quantisation {
  const { bits, checkpoint_format: format } = raw;
  if (bits !== 2 && bits !== 4 && bits !== 8) return refuse(`GPTQ in ${bits ?? 'unnamed'} bits`);
  if (format !== undefined && format !== null && !['gptq', 'gptq_v2'].includes(format)) {
    return refuse(`GPTQ in the format ${JSON.stringify(format.slice(0, 40))}`);
  }
  const groupSize = groupSizeOf(raw.group_size, refuse);
  // The first format holds zero points less one.
  return { method: 'gptq', bits, groupSize, zeroOffset: format === 'gptq_v2' ? 0 : 1 };
}

function readAwq(raw: Raw, refuse: (what: string) => never): Quantisation {
  const bits = raw.bits ?? raw.w_bit;
  if (bits !== 4) return refuse(`AWQ in ${bits ?? 'unnamed'} bits`);
  const version = raw.version ?? 'gemm';
  if (version.toLowerCase() !== 'gemm') {
    return refuse(`AWQ in the order ${JSON.stringify(version.slice(0, 40))}`);
  }
  return { method: 'awq', groupSize: groupSizeOf(raw.group_size ?? raw.q_group_size, refuse) };
}

/** 0 for all of a row. */
function groupSizeOf(value: number | null | undefined, refuse: (what: string) => never): number {
  if (value === -1) return 0;
  const isGood = value && Number.isInteger(value) && value > 0 && value <= GROUP_SIZE_MAX;
  return isGood ? value : refuse(`groups of ${value ?? 'unnamed'} weights`);
}
