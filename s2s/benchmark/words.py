"""What a reader must know of the table: what is measured, and why our figures are not the paper's."""

MEASURED = """\
Every figure of ours is a mean over scenes that no method has seen, with its 95 % bootstrap interval. The columns
beside "paper" are what the paper measures: *PSNR 8 bit* and *SSIM 8 bit* compare 8-bit greys with those of the
echogenicity that was drawn, without attenuation and without blur; *Hom* is the homogeneity of a grey-level
co-occurrence matrix, which knows no truth. *PSNR* and *PSNR fit* compare with the truth of the image itself
(`truth/bmode`), before and after the rising tone curve that brings an image closest. LPIPS is measured where its
weights are on the machine, which are never downloaded.

Filters have the settings that came nearest to the truth of scenes of the training's phantom. What was trained here is
judged by its weights of the last step, not by those that a truth would choose; the weights in the box are published
ones, trained for much longer. What takes long per image, as all does that is fitted to it, is judged on the first
scenes of each set alone; the column *scenes* counts them. Intervals of few scenes are widened as Student's law asks,
those of two by a factor of 6.5, so that some reach beyond what a score can be."""

DIFFERENCES = """\
- **The scenes.** The paper's simulator, probe and number of images were not published. `paper-s1`, `paper-s2` and
  `paper-s3` are made after its one published panel and its words: discs with brighter shapes in them, attenuation that
  nothing undoes, hardly compressed pictures. `invivo-like` stands for carotid images of patients.
- **The truth.** The paper's truth is the map of echogenicity that was drawn. It does not darken with depth, as the
  images do, and it has edges that no probe resolves: also the image without any speckle is far from it. Most of the
  distance in the columns *8 bit* is that of tone and depth, the same for all methods; *PSNR fit* shows what it hides.
  A method that learns from the paper's truth (its Noise2True) learns that trend too, and wins those columns by it; ours
  learn from `truth/bmode`.
- **The training.** The paper trains on images like those that it judges. Here methods learn from one phantom of many
  probes, pixels and speckle cells (those with slices and angles from phantoms of two probes, which have them), and have
  to find their way in sets that they never saw.
- **Pictures and decibels.** The paper's networks see envelopes, hardly compressed; ours see decibels, in which speckle
  has one variance everywhere. Hom depends on the display: see the row of a blur with a gamma of 2.
- **Noise2Noise.** The paper's needs two images of one scene and finds little gain; `noise2noise` here has independent
  draws, which no patient can give. Its rows with slices and angles have pairs that a scanner can take. Lesions and
  wires of our volumes are the same in all slices; two angles do not show quite the same: beams and shadows turn with
  them.
- **Speckle2Self as published** has whole images and 5000 epochs in the paper. `smoke` and `short` give it a few hundred
  steps, one image of 256 x 256 pixels each, by whose statistics it normalises. Its row there is no measure of the
  published method; what that reaches, trained for longer and in other ways, is told in docs/speckle2self.md.
- **Methods that need white noise** leave speckle as it is here as in the paper. The rows `polyphase(4):` are what
  helps them, and `structn2v`, `inpaint` and `speckle2self` hide the whole cell instead."""
