/** The operations on ONNX Runtime. */
import { ortExecutor } from '../../node/engine/ort.js';
import { openTfjsExecutor } from '../../node/engine/tfjs/open.js';
import { operationCompliance } from './ops.js';

operationCompliance('ONNX Runtime', () => ortExecutor({ threads: 1 }));
operationCompliance('TensorFlow.js, wasm', () => openTfjsExecutor({ backend: 'wasm' }));
operationCompliance('TensorFlow.js, cpu', () => openTfjsExecutor({ backend: 'cpu' }));
