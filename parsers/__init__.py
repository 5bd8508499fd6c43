from parsers.errors import *
from parsers.errors import Code, DatasetError, MissingPackageError
