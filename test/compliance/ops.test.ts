/** The operations on ONNX Runtime. */
import { ortExecutor } from '../../node/engine/ort.js';
import { operationCompliance } from './ops.js';

operationCompliance('ONNX Runtime', () => ortExecutor({ threads: 1 }));
