"""From what lies on disk (FRED's folders, its zip archives, a fusion JSON) to an index of frames with their boxes."""
