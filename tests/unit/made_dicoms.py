"""DICOM files made up for tests: a screen with a fan of speckle, text, and a patient who must not be named."""

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CLASS = "1.2.840.10008.5.1.4.1.1.3.1"  # Ultrasound Multi-frame Image Storage
INSTANCE, SERIES, STUDY = "1.2.3.4.5.6.7", "1.2.3.4.5.6", "1.2.3.4.5"
SECRETS = ("DOE^JANE", "PAT-4711", "19610503", "Dr^NO", "St. Elsewhere")
#: Columns and rows of the fan's box, both ends within.
BOX = (40, 20, 179, 139)
SHAPE = (160, 220)


def screen(seed=0, *, white=255):
    """A screen (H, W): a fan of log-compressed speckle in black, and text above and below it."""
    rng = np.random.default_rng(seed)
    z, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    radius, angle = np.hypot(z - 10, x - 110), np.arctan2(x - 110, z - 10)
    fan = (radius > 12) & (radius < 128) & (np.abs(angle) < 0.55)
    envelope = np.abs(rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE)) / 6
    levels = np.clip(1 + 20 * np.log10(envelope) / 60, 0.1, 1) * fan
    drawing = PIL.Image.new("L", SHAPE[::-1])
    PIL.ImageDraw.Draw(drawing).text((4, 2), "DOE JANE 4711", 255)
    PIL.ImageDraw.Draw(drawing).text((150, 146), "MI 0.9", 200)
    return np.rint(white * np.maximum(levels, np.asarray(drawing) / 255)).astype(np.uint16 if white > 255 else np.uint8)


def region(box=BOX, kind=1, form=1):
    """An item of SequenceOfUltrasoundRegions; kind: 1 tissue, 2 flow.  form: 1 image, 2 M-mode, 3 spectrum."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = form, kind, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0, item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX = item.PhysicalDeltaY = 0.0123
    return item


def header(stored, *, photometric="MONOCHROME2", bits=None, regions=True, **tags):
    """A dataset with stored (H, W), (H, W, 3), or (N, ...) numbers, uncompressed; tags: by keyword.

    regions: True for one of tissue at BOX.
    """
    stored = np.asarray(stored)
    samples = 3 if stored.shape[-1] == 3 else 1
    frames = stored if stored.ndim == 3 + (samples == 3) else stored[None]
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = CLASS, INSTANCE
    data.StudyInstanceUID, data.SeriesInstanceUID = STUDY, SERIES
    data.Modality, data.ImageType = "US", ["ORIGINAL", "PRIMARY", "ABDOMINAL"]
    data.PatientName, data.PatientID, data.PatientBirthDate = SECRETS[:3]
    data.ReferringPhysicianName, data.InstitutionName = SECRETS[3:]
    data.SeriesDescription = "Liver"
    data.NumberOfFrames, data.Rows, data.Columns = len(frames), *frames.shape[1:3]
    data.FrameTime = 40
    data.PixelSpacing = [0.123, 0.123]
    data.SamplesPerPixel, data.PhotometricInterpretation = samples, photometric
    if samples == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = 8 * stored.dtype.itemsize
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    if regions:
        data.SequenceOfUltrasoundRegions = [region()] if regions is True else regions
    content = frames.tobytes()
    data.add_new(0x7FE00010, "OB" if stored.dtype.itemsize == 1 else "OW", content + b"\0" * (len(content) % 2))
    for keyword, value in tags.items():
        setattr(data, keyword, value)
    return data


def dicom(path, stored, **options):
    """Write such a DICOM; returns its path."""
    header(stored, **options).save_as(path, enforce_file_format=True)
    return path


def read(path):
    """Return dataset and pixels, colours as RGB."""
    data = pydicom.dcmread(path)
    return data, data.pixel_array
