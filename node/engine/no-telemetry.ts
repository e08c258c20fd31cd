/**
 * To be imported before onnxruntime-node. The library reports sessions, their times and this machine to its makers over
 * the network, and keeps a device id and what it has not sent yet in ~/.cache, unless this variable is set when
 * it is loaded (1.29 and later, on Linux and macOS).
 */
process.env['ORT_DISABLE_TELEMETRY'] = '1';
