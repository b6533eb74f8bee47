/* The network runs in this page. Pictures of more pixels are refused; none is made smaller. */
const MOST_PIXELS = 64e6, LONGEST = Infinity;

const network = makeNetwork(decodeWeights(document.getElementById("weights").textContent));

function look(context) {
  const { width, height } = context.canvas;
  const pixels = context.getImageData(0, 0, width, height).data;
  const { sample, done } = sampleOf(pixels, width, height);
  const begin = performance.now();
  const outputs = predict(network, sample);
  const time = `${(performance.now() - begin).toFixed(1)} ms in this browser`;
  answer({ sample, done, outputs, steps: network, time });
}
