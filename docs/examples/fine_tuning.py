"""Train on the digits 0 to 4, then fine-tune on 5 to 9: frozen convolutions, a new head."""

import sys
from pathlib import Path

from PIL import Image, ImageDraw

import fastcnn

out = Path(sys.argv[1] if len(sys.argv) > 1 else "fine_tuning.png")

train, test = fastcnn.data.digits_dataset(3000, 500, classes=(0, 1, 2, 3, 4))
model = fastcnn.models.lenet5(num_classes=5, seed=0)
history = fastcnn.fit(model, train, test, epochs=5)
print(f"digits 0 to 4: accuracy {history.final.test_accuracy:.3f}")
model.save(out.with_suffix(".safetensors"))

# Only ten pictures of each of the other digits.
train, test = fastcnn.data.digits_dataset(50, 500, classes=(5, 6, 7, 8, 9), seed=1)
tuned = fastcnn.load(out.with_suffix(".safetensors"))
fastcnn.transfer.replace_head(tuned, 5, seed=1)
for name in ("conv1", "conv2"):
    tuned[name].requires_grad = False
settings = {"epochs": 40, "batch_size": 16, "lr": 0.01, "diagnose": False}
history = fastcnn.fit(tuned, train, test, **settings)
print(f"digits 5 to 9, fine-tuned: accuracy {history.final.test_accuracy:.3f}")

scratch = fastcnn.models.lenet5(num_classes=5, seed=1)
scratch.preprocessing = model.preprocessing
history = fastcnn.fit(scratch, train, test, **settings)
print(f"digits 5 to 9, all trained from the start: accuracy {history.final.test_accuracy:.3f}")

# Test digits, each with what the fine-tuned network takes it for.
shown, scale = 20, 3
found = tuned.predict(test.images[:shown])
picture = Image.new("L", (shown // 2 * 28 * scale, 2 * 34 * scale), 255)
draw = ImageDraw.Draw(picture)
for index, (pixels, label) in enumerate(zip(test.images[:shown], found, strict=True)):
    x, y = index % (shown // 2) * 28 * scale, index // (shown // 2) * 34 * scale
    picture.paste(Image.fromarray(255 - pixels[0]).resize((28 * scale, 28 * scale)), (x, y))
    draw.text((x + 4, y + 28 * scale), test.classes[label], fill=0)
picture.save(out)
print(f"picture: {out}")
