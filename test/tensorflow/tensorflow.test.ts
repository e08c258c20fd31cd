/**
 * TensorFlow itself under the graph: every operation, every reference case. MURMURATE_TFJS says where
 * scripts/build-tfjs-native.sh built the addon; without one these tests fail.
 */
import type { Executor } from '../../node/engine/executor.js';
import { openTfjsExecutor } from '../../node/engine/tfjs/open.js';
import { executorCompliance } from '../compliance/executor.js';
import { operationCompliance } from '../compliance/ops.js';
import { referenceAgreement, trainStepAgreement } from '../reference/agreement.js';
import { tensorsAreFreed } from '../unit/engine/tensors-are-freed.js';

// What a verb is called with is no concern of what loads the addon.
process.argv.push('--dir', '/nowhere');

const open = (): Promise<Executor> => openTfjsExecutor({ backend: 'tensorflow' });

executorCompliance('TensorFlow', open);
operationCompliance('TensorFlow', open);
referenceAgreement('TensorFlow', open);
trainStepAgreement('TensorFlow', open);
tensorsAreFreed('TensorFlow', open);
