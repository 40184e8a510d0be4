"""The table of the Speckle2Self paper: its figures on three simulated sets, and on carotid images of patients.

Li, Navab and Jiang, "Speckle2Self: Self-Supervised Ultrasound Speckle Reduction Without Clean Data", Medical Image
Analysis 2025, arXiv 2507.06828.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The metrics of its columns, by our names, in its order; all sets have them.
COLUMNS = ("psnr_8bit", "ssim_8bit", "hom", "lpips")
#: Our phantoms in the spirit of its sets, by its names; and that of its images of patients, of which it gives Hom.
SETS = {"S-I": "paper-s1", "S-II": "paper-s2", "S-III": "paper-s3"}
PATIENTS = ("in vivo", "invivo-like")


@dataclass(frozen=True)
class PaperRow:
    """What the paper gives of a method.

    sets: of each set PSNR, SSIM, Hom and LPIPS.  patients: Hom on carotid images, None where it gives none.  time: per
    image, "" where it gives none.
    """

    sets: tuple[tuple[float, float, float, float], ...]
    patients: float | None
    time: str


def _row(text: str, patients: float | None, time: str) -> PaperRow:
    first, second, third = (tuple(map(float, part.split())) for part in text.split("|"))
    return PaperRow((first, second, third), patients, time)  # type: ignore[arg-type]


#: Its rows, in its order, by our name of the contender that is meant.
ROWS = {
    "srad": _row("19.40 .734 .763 .411 | 19.57 .735 .768 .419 | 20.81 .880 .874 .246", 0.705, "6 s"),
    "nlm": _row("19.40 .736 .714 .417 | 19.52 .738 .740 .428 | 20.94 .881 .839 .310", 0.691, "80 ms"),
    "bm3d": _row("19.26 .684 .691 .397 | 19.34 .679 .694 .407 | 21.01 .875 .844 .245", 0.656, "3 s"),
    "obnlm": _row("18.84 .703 .577 .470 | 18.88 .702 .621 .484 | 21.49 .885 .774 .299", 0.460, "12 s"),
    "noise2true": _row("23.33 .936 .910 .059 | 23.25 .937 .923 .049 | 27.66 .973 .941 .062", None, "6 ms"),
    "noise2noise": _row("18.05 .705 .683 .369 | 17.74 .691 .689 .410 | 21.99 .895 .820 .240", None, "6 ms"),
    "dip": _row("18.87 .543 .515 .484 | 18.93 .523 .531 .501 | 20.98 .831 .747 .323", 0.436, ""),
    "noise2void": _row("17.62 .311 .312 .561 | 17.55 .314 .339 .551 | 19.87 .613 .573 .388", 0.215, "6 ms"),
    "noise2self (one image)": _row("17.32 .303 .308 .549 | 17.64 .310 .339 .545 | 19.69 .587 .576 .399", 0.227, ""),
    "noise2self": _row("18.14 .346 .316 .543 | 17.64 .344 .330 .547 | 20.41 .657 .573 .399", 0.184, "6 ms"),
    "neighbor2neighbor": _row("17.63 .319 .310 .556 | 17.79 .321 .339 .549 | 20.19 .637 .574 .384", 0.213, "6 ms"),
    "zs-n2n": _row("17.58 .315 .312 .557 | 17.71 .318 .340 .550 | 20.04 .625 .576 .384", 0.214, ""),
    "speckle2self (as published)": _row(
        "18.59 .771 .803 .231 | 18.94 .777 .792 .233 | 22.90 .922 .876 .173", 0.725, "7 ms"
    ),
}
