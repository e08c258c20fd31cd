/** The three offices of the example. */
import { CLINIC } from './offices/clinic.js';
import { LAW_OFFICE } from './offices/law-office.js';
import { MACHINE_SHOP } from './offices/machine-shop.js';
import type { Office } from './offices/office.js';

/** In the order of the demonstration's peers: the first founds the run. */
export const OFFICES: readonly Office[] = [CLINIC, MACHINE_SHOP, LAW_OFFICE];
