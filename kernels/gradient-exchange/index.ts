export {
  packGradients,
  placeGradients,
  sumGradients,
  wireBytes,
  type ReceivedGradients,
  type WireType,
} from './gradientExchange.ts';
